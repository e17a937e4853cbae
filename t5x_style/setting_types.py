"""Types of settings: numbers with their ranges, texts, dtypes. Launch checks values against them.

All numbers fit the 32 bits that JAX computes with.
"""

from typing import Annotated, Literal

from annotated_types import Interval, MinLen

PositiveInt = Annotated[int, Interval(gt=0, lt=2**31)]
NonNegativeInt = Annotated[int, Interval(ge=0, lt=2**31)]
SentinelCount = Annotated[int, Interval(ge=0, le=100_000)]  # One row of the embedding each.
Seed = Annotated[int, Interval(ge=0, lt=2**32)]

PositiveFloat = Annotated[float, Interval(gt=0, lt=1e38)]
NonNegativeFloat = Annotated[float, Interval(ge=0, lt=1e38)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
FractionBelowOne = Annotated[float, Interval(ge=0, lt=1)]
OpenFraction = Annotated[float, Interval(gt=0, lt=1)]

Text = Annotated[str, MinLen(1)]
DType = Literal["float32", "bfloat16", "float16"]
LayerRule = Literal["interpolate", "stack", "solar"]  # Which layers of a checkpoint are chosen.
