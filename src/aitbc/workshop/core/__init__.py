"""What a workshop node decides, without sockets, clocks and files. docs/spec/workshop.md"""
