"""The benchmarks: how long things take beside what else there is, printed. Nothing here is part of
the product."""
