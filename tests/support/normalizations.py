"""Normalizations written as several nodes, in ONNX text, and graphs that are no normalization."""

CONSTANTS = """float two = {2}, float half = {0.5}, float minus = {-0.5}, float one = {1}, float eps = {0.00001},
 float[8] g = {1, 1, 1, 1, 1, 1, 1, 1}, float[8] b = {1, 1, 1, 1, 1, 1, 1, 1}, float s = {0.1}, int8 z = {0},
 int64[1] last = {-1}, int64[1] heads = {1}, int64[2] space = {2, 3}, int64[3] grouped = {0, 2, -1}, int64[4] whole = {1, 4, 8, 8},
 float[4,1,1] g4 = {1, 1, 1, 1}, float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}"""

LAYER_NORM = "m = ReduceMean <axes = [-1]> (a)  c = Sub (a, m)  "
ROOT = "v = ReduceMean <axes = [-1]> (p)  e = Add (v, eps)  r = Sqrt (e)  "
FORMS: dict[str, tuple[str, str]] = {
    "LayerNormalization, power and quotient": (LAYER_NORM + "p = Pow (c, two)  " + ROOT + "y = Div (c, r)", "mcpvery"),
    "the square as a product": (LAYER_NORM + "p = Mul (c, c)  " + ROOT + "y = Div (c, r)", "mcpvery"),
    "the reciprocal of the root": (
        LAYER_NORM + "p = Mul (c, c)  " + ROOT + "i = Reciprocal (r)  y = Mul (c, i)",
        "mcpveriy",
    ),
    "one over the root": (LAYER_NORM + "p = Mul (c, c)  " + ROOT + "i = Div (one, r)  y = Mul (i, c)", "mcpveriy"),
    "a negative power": (
        LAYER_NORM
        + "p = Mul (c, c)  v = ReduceMean <axes = [-1]> (p)  e = Add (v, eps)  i = Pow (e, minus)  y = Mul (c, i)",
        "mcpveiy",
    ),
    "scale and bias are part of it": (
        LAYER_NORM + "p = Pow (c, two)  " + ROOT + "n = Div (c, r)  k = Mul (n, g)  y = Add (k, b)",
        "mcpvernky",
    ),
    "Casts around the variance": (
        LAYER_NORM
        + "h = Cast <to = 1> (c)  p = Pow (h, two)  v = ReduceMean <axes = [-1]> (p)  e = Add (v, eps)  r = Sqrt (e)  "
        + "f = Cast <to = 1> (r)  y = Div (c, f)",
        "mcpvery",  # the graph leaves the Casts out
    ),
    "the mean of squares less the square of the mean": (
        LAYER_NORM
        + "q = Mul (a, a)  u = ReduceMean <axes = [-1]> (q)  n = Mul (m, m)  v = Sub (u, n)  e = Add (v, eps)  "
        "r = Sqrt (e)  y = Div (c, r)",
        "mcqunvery",
    ),
    "input times the inverse, plus the shift": (
        LAYER_NORM + "p = Mul (c, c)  " + ROOT + "i = Reciprocal (r)  k = Mul (i, g)  n = Mul (a, k)  o = Mul (m, k)  "
        "t = Sub (b, o)  y = Add (n, t)",
        "mcpveriknoty",
    ),
    "a mean in two steps": (
        "l = ReduceMean <axes = [-1]> (a)  m = ReduceMean <axes = [-2]> (l)  c = Sub (a, m)  p = Mul (c, c)  "
        "v = ReduceMean <axes = [-1, -2]> (p)  e = Add (v, eps)  r = Sqrt (e)  y = Div (c, r)",
        "lmcpvery",
    ),
    "RMSNorm": ("p = Pow (a, two)  " + ROOT + "y = Div (a, r)", "pvery"),
    "global response normalization with its sum": (
        "n = ReduceL2 <axes = [1, 2]> (a)  m = ReduceMean <axes = [-1]> (n)  e = Add (m, eps)  d = Div (n, e)  q = Mul (a, d)  "
        "k = Mul (q, g)  o = Add (k, b)  y = Add (a, o)",
        "nmedqkoy",
    ),
    "the input is added before the bias": (
        "p = Pow (a, two)  " + ROOT + "n = Div (a, r)  k = Mul (n, g)  t = Add (k, a)  y = Add (t, b)",
        "pvernkty",
    ),
    "the L2 norm": (
        "n = ReduceL2 <axes = [-1]> (a)  f = Clip (n, eps)  t = Shape (a)  x1 = Expand (f, t)  y = Div (a, x1)",
        "nfxy",
    ),
    "the L1 norm": ("t = Abs (a)  n = ReduceSum (t, last)  y = Div (a, n)", "tny"),
    "softmax": (
        "m = ReduceMax <axes = [-1]> (a)  c = Sub (a, m)  e = Exp (c)  n = ReduceSum (e, last)  y = Div (e, n)",
        "mceny",
    ),
    "softmax without the maximum": ("e = Exp (a)  n = ReduceSum (e, last)  y = Div (e, n)", "eny"),
    "softmax with a temperature": (
        "m = ReduceMax <axes = [-1]> (a)  c = Sub (a, m)  k = Mul (c, half)  e = Exp (k)  n = ReduceSum (e, last)  y = Div (e, n)",
        "mckeny",
    ),
    "softmax with a mask": (
        "m = ReduceMax <axes = [-1]> (a)  c = Sub (a, m)  e = Exp (c)  k = Mul (e, x)  n = ReduceSum (k, last)  y = Div (k, n)",
        "mcekny",
    ),
    "softmax with a Where": (
        "m = ReduceMax <axes = [-1]> (a)  c = Sub (a, m)  e = Exp (c)  f = Cast <to = 9> (x)  k = Where (f, e, eps)  "
        "n = ReduceSum (k, last)  y = Div (k, n)",
        "mcekny",
    ),
    "the logarithm of softmax": (
        "m = ReduceMax <axes = [-1]> (a)  c = Sub (a, m)  e = Exp (c)  n = ReduceSum (e, last)  l = Log (n)  y = Sub (c, l)",
        "mcenly",
    ),
    "GroupNormalization on reshaped groups": (
        "j = Reshape (a, grouped)  m = ReduceMean <axes = [-1]> (j)  c = Sub (j, m)  p = Mul (c, c)  "
        "v = ReduceMean <axes = [-1]> (p)  e = Add (v, eps)  r = Sqrt (e)  n = Div (c, r)  o = Reshape (n, whole)  "
        "y = Mul (o, g4)",
        "mcpvernoy",
    ),
    "the batch normalization of training": (
        "m = ReduceMean <axes = [0, 2, 3]> (a)  c = Sub (a, m)  p = Mul (c, c)  v = ReduceMean <axes = [0, 2, 3]> (p)  "
        "e = Add (v, eps)  r = Sqrt (e)  y = Div (c, r)",
        "mcpvery",
    ),
    "instance normalization by pools": (
        "m = GlobalAveragePool (a)  c = Sub (a, m)  p = Mul (c, c)  v = GlobalAveragePool (p)  e = Add (v, eps)  "
        "r = Sqrt (e)  y = Div (c, r)",
        "mcpvery",
    ),
    "global response normalization": (
        "n = ReduceL2 <axes = [2, 3]> (a)  m = ReduceMean <axes = [1]> (n)  e = Add (m, eps)  i = Div (n, e)  y = Mul (a, i)",
        "nmeiy",
    ),
    "local response normalization": (
        "p = Mul (a, a)  v = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p)  e = Add (v, eps)  "
        "r = Pow (e, half)  y = Div (a, r)",
        "pvery",
    ),
    "a standard deviation that is pooled": (
        LAYER_NORM + "p = Pow (c, two)  v = ReduceMean <axes = [-1]> (p)  r = Sqrt (v)  y = MatMul (r, w)",
        "mcpvr",
    ),
    "pairs inside": (
        "p = Pow (a, two)  v = ReduceMean <axes = [-1]> (p)  q0 = QuantizeLinear (v, s, z)  d0 = DequantizeLinear (q0, s, z)  "
        "e = Add (d0, eps)  r = Sqrt (e)  y = Div (a, r)",
        "pvery",
    ),
    "a squeeze-and-excite gate": (
        "m = GlobalAveragePool (a)  c = Conv (m, w)  r = Relu (c)  e = Conv (r, w)  h = Sigmoid (e)  y = Mul (a, h)",
        "",
    ),
    "a gate without weights": ("m = GlobalAveragePool (a)  h = Sigmoid (m)  y = Mul (a, h)", ""),
    "a pool before a classifier": ("m = GlobalAveragePool (a)  f = Flatten (m)  y = Relu (f)", ""),
    "a mean over frames, joined to the frames": (
        "m = ReduceMean <axes = [2]> (a)  t = Shape (a)  o = Expand (m, t)  y = Concat <axis = 1> (a, o)",
        "",
    ),
    "attention": ("o = Transpose <perm = [0, 1, 3, 2]> (a)  i = MatMul (a, o)  h = Softmax (i)  y = MatMul (h, a)", ""),
    "the statistic of another tensor": (
        "o = Conv (a, w)  p = Mul (o, o)  v = AveragePool <kernel_shape = [1, 1]> (p)  r = Exp (v)  y = Div (a, r)",
        "",
    ),
    "the mean of the tokens that a mask keeps": (
        "h = Sigmoid (a)  p = Mul (a, h)  n = ReduceSum (p, last)  o = ReduceSum (h, last)  y = Div (n, o)",
        "",
    ),
    "the score of a class times the best of all": ("m = ReduceMax <axes = [1]> (a)  y = Mul (a, m)", ""),
}
"""What it shows → its nodes, from the tensor a to the tensor y, and the first letter of the outputs of those that are part
of the normalization; x1 counts as x. The tensor x has the shape [1, 4, 8, 8]."""
