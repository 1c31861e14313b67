"""One BLAS thread for every test, set before numpy is imported anywhere: engines promise bytes, not speed. And a
PostgreSQL for those that ask for one."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from support.postgres import postgres_server, postgres_url  # noqa: E402

__all__ = ["postgres_server", "postgres_url"]
