"""A rank under mpiexec, which needs no binding of MPI: `mpiexec ... python -m tests.frameworks.mpi_rank`."""

from __future__ import annotations

import runstream

if __name__ == "__main__":
    with runstream.init("frameworks") as run:
        run.log({"rank": float(run.rank)})
