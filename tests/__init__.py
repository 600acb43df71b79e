"""The tests. What the program sets for itself before it loads a library is set here for all."""

import os

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
# Threads that wait for each other on a busy machine must not spin: small towers would take ten
# times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
