"""A process of its own that scores with two workers, batch by batch, for tests that stop it.

After so many pairs it waits for its end, while its workers go on.

Arguments: folder of a model, pickled pairs, partial file, pairs to keep before it waits.
"""

import pickle
import signal
import sys
import time
from pathlib import Path

from circuits.attribution import attribute
from circuits.models import HookedModel
from circuits.options.engine import RayEngine
from circuits.options.run import RunOptions
from circuits.runtime import resume as module
from circuits.runtime.resume import PartialResults

if __name__ == "__main__":
    # A shell that starts tests in the background has them ignore Ctrl-C, and so what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module._EVERY = module._COST = 0  # written after every batch
    keep, kept = PartialResults.keep, []

    def keep_and_wait(self, index):
        keep(self, index)
        kept.extend(index)
        if len(kept) == int(sys.argv[4]):
            Path(sys.argv[3]).with_name("waits").touch()
            time.sleep(600)

    PartialResults.keep = keep_and_wait
    model = HookedModel.from_pretrained(sys.argv[1], device="cpu")
    pairs = pickle.loads(Path(sys.argv[2]).read_bytes())
    options = RunOptions(1, engine=RayEngine(workers=2))
    with PartialResults(sys.argv[3]) as resume:
        attribute(model, pairs, "eap-ig", options=options, resume=resume)
