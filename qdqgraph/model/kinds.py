"""`Kind`: what a file can be, as messages name it, and what takes it. `recognized` finds the kind of a file."""

from __future__ import annotations

from dataclasses import dataclass

ALSO_TORCH = "or quantize it in PyTorch: qdqgraph torch quantize --model MODULE:FUNCTION --data MODULE:FUNCTION -o OUT"
RANGES = "these take it: qdqgraph fix and quantize, with --ranges {file}"
DATA = "the commands that measure take it, with --data {file}"


@dataclass(frozen=True)
class Kind:
    """A kind of files, or a folder.

    Attributes:
        name: what it is, with its article.
        use: what takes it, or how to get an ONNX file: one sentence without a full stop. `{file}` is the file as a word
            of a shell command, `{inside}` what is in an archive or folder.
    """

    name: str
    use: str


ONNX = Kind("an ONNX model", "the commands that take a MODEL take it, such as: qdqgraph check {file}")
ENGINE = Kind(
    "a TensorRT engine",
    "it contains no ONNX graph: give the ONNX file that it was built from, or read its layers: "
    "trtexec --loadEngine={file} --exportLayerInfo=layers.json, then: qdqgraph engine read layers.json",
)
RTX_ENGINE = Kind(
    "a TensorRT-RTX engine",
    "it contains no ONNX graph: give the ONNX file that it was built from; its layers are listed by: "
    "qdqgraph engine build MODEL.onnx --with tensorrt-rtx",
)
TORCH = Kind(
    "a PyTorch checkpoint", f"export the network with torch.onnx.export and give the ONNX file, {ALSO_TORCH}.onnx"
)
TORCH_SCRIPT = Kind(
    "a TorchScript model", f"export the network with torch.onnx.export and give the ONNX file, {ALSO_TORCH}.onnx"
)
TORCH_EXPORT = Kind(
    "a program of torch.export",
    "make an ONNX file of it: torch.onnx.export(torch.export.load({file!r}), f='model.onnx', dynamo=True)",
)
PICKLE = Kind(
    "a Python pickle, such as a PyTorch checkpoint",
    f"export the network with torch.onnx.export and give the ONNX file, {ALSO_TORCH}.onnx",
)
SAFETENSORS = Kind(
    "a file of weights (safetensors)",
    "it contains no graph: load it into its network, export that with torch.onnx.export, and give the ONNX file",
)
TFLITE = Kind(
    "a TensorFlow Lite model", "convert it with tf2onnx: python -m tf2onnx.convert --tflite {file} --output model.onnx"
)
SAVED_MODEL = Kind(
    "a TensorFlow SavedModel",
    "convert its folder with tf2onnx: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
)
KERAS = Kind("an HDF5 file, such as a Keras model", "convert the model with tf2onnx and give the ONNX file")
ORT = Kind("an ONNX Runtime model (ORT format)", "give the ONNX file that it was converted from")
GGUF = Kind("a GGUF model", "give an ONNX file of the network, exported from its framework")
OPENVINO = Kind("an OpenVINO model (IR)", "give the ONNX file that it was converted from")
ONNX_TEXT = Kind(
    "an ONNX model written as text",
    "convert it: python -c \"import onnx; onnx.save(onnx.load({file!r}, format={format!r}), 'model.onnx')\"",
)

LFS = Kind("a Git LFS pointer file", "get the file itself: git lfs pull")
ANNEX = Kind("a git-annex pointer file", "get the file itself: git annex get {file}")
HTML = Kind("an HTML page", "it was probably saved by a download that failed: open it in a browser, and download again")
XML = Kind("an XML document", "if a download saved it, it says why that failed: read it, and download again")
GZIP = Kind("a gzip file", "unpack it: gunzip -c {file} > model.onnx")
TAR_GZIP = Kind("a tar archive, compressed with gzip", "unpack it: tar -xzf {file}")
TAR = Kind("a tar archive", "unpack it: tar -xf {file}")
ZIP = Kind("a ZIP archive{inside}", "unpack it: unzip {file}")
DAMAGED_ZIP = Kind("a ZIP archive that is damaged or incomplete", "get it again")
BZIP2 = Kind("a bzip2 file", "unpack it: bunzip2 -k {file}")
XZ = Kind("an xz file", "unpack it: unxz -k {file}")
ZSTD = Kind("a Zstandard file", "unpack it: zstd -d {file}")
SEVEN = Kind("a 7z archive", "unpack it: 7z x {file}")

LAYERS = Kind("layer info of an engine", "this takes it: qdqgraph engine read {file}")
SAVED_ENGINE = Kind("an engine that qdqgraph saved", "this takes it: qdqgraph engine read {file}")
PROFILE = Kind("a profile of an engine", "this takes it: qdqgraph engine read LAYERS.json --profile {file}")
TIMES = Kind("a list of run times", "this takes it: qdqgraph engine read LAYERS.json --times {file}")
LOG = Kind("a log of TensorRT", "if it lists the layers of an engine, this takes it: qdqgraph engine read {file}")
PLAN = Kind("a plan of qdqgraph", "these take it: qdqgraph apply {file} MODEL -o OUT, and qdqgraph undo")
FINDINGS = Kind("findings of qdqgraph check as JSON", "give the ONNX file that was checked")
RESULT = Kind("the output of qdqgraph fix --json", "give the ONNX file; a plan is written by: qdqgraph fix --plan FILE")
RANKING = Kind("a ranking of qdqgraph sensitivity", "this takes it: qdqgraph strip MODEL --from {file} --top K -o OUT")
ERRORS = Kind("the output of qdqgraph error --json", "this takes it: qdqgraph strip MODEL --from {file} --top K -o OUT")
CACHE = Kind("a TensorRT calibration cache", RANGES)
AIMET = Kind("AIMET encodings", RANGES)
ORT_TABLE = Kind("a calibration table of ONNX Runtime", RANGES)
STATISTICS = Kind("statistics of qdqgraph", RANGES)
ARRAYS = Kind("a file of NumPy arrays (.npz)", DATA)
ARRAY = Kind("a NumPy array (.npy)", DATA)
PICTURE = Kind("a picture", "the commands that measure take its folder, with --data FOLDER --preprocess SPEC")
JSON = Kind("a JSON document", "")
TEXT = Kind("a text file", "")
EMPTY = Kind("an empty file", "export or download it again")
FOLDER = Kind("a folder{inside}", "")
NOTHING_IN = " without ONNX files"
"""What `{inside}` of a folder is if it contains no ONNX file."""
