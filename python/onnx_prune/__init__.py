"""Makes pretrained ONNX classifiers smaller, from Python.

The work is done by the program ``onnx-prune``, which this package carries and starts as a process of its own::

    import onnx_prune

    found = onnx_prune.prune("model.onnx", "small.onnx", keep=0.3, data="images/")
    print(found.output.bytes, found.accuracy)

``python -m onnx_prune`` is the same program, with its own flags.
"""

from importlib.metadata import PackageNotFoundError, version

from ._program import OnnxPruneError, Run, program, run
from ._prune import Figures, Layer, ModelFile, Pruned, prune

try:
    __version__ = version("onnx-prune")
except PackageNotFoundError:  # run from a checkout
    __version__ = "unknown"

__all__ = ["Figures", "Layer", "ModelFile", "OnnxPruneError", "Pruned", "Run", "program", "prune", "run"]
