"""Virtual time: the unmodified replica without sockets, threads or clocks. One seed, one run."""
