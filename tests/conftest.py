"""One BLAS thread for every test, set before numpy is imported anywhere: engines promise bytes, not speed."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
