"""`elastix-affine` and `elastix-bspline`: the default parameter maps of elastix, run by this engine.

Imitates: itk-elastix 0.25 (elastix 5), the maps that `GetDefaultParameterMap` gives for "rigid", "affine" and
"bspline" at 4 resolutions, one after the other, with AutomaticTransformInitialization in the first (it is off in the
map itself). Klein et al., IEEE TMI 2010, doi:10.1109/TMI.2009.2035616.

The maps stand here as elastix prints them, and `elastix` reads them as it reads a file.

Must not import: api, numba, cupy.
"""

from __future__ import annotations

from ..io.elastix_text import parse
from .base import Baseline
from .elastix import Parameters

COMMON = """
(AutomaticParameterEstimation "true")
(CheckNumberOfSamples "true")
(DefaultPixelValue "0")
(FinalBSplineInterpolationOrder "3")
(FixedImagePyramid "FixedSmoothingImagePyramid")
(ImageSampler "RandomCoordinate")
(Interpolator "LinearInterpolator")
(MaximumNumberOfIterations "256")
(MaximumNumberOfSamplingAttempts "8")
(MovingImagePyramid "MovingSmoothingImagePyramid")
(NewSamplesEveryIteration "true")
(NumberOfResolutions "4")
(NumberOfSamplesForExactGradient "4096")
(NumberOfSpatialSamples "2048")
(Optimizer "AdaptiveStochasticGradientDescent")
(ResampleInterpolator "FinalBSplineInterpolator")
(Resampler "DefaultResampler")
(ResultImageFormat "nii")
(WriteIterationInfo "false")
(WriteResultImage "true")
"""

RIGID = COMMON + """
(AutomaticScalesEstimation "true")
(Metric "AdvancedMattesMutualInformation")
(Registration "MultiResolutionRegistration")
(Transform "EulerTransform")
"""

AFFINE = COMMON + """
(AutomaticScalesEstimation "true")
(Metric "AdvancedMattesMutualInformation")
(Registration "MultiResolutionRegistration")
(Transform "AffineTransform")
"""

BSPLINE = COMMON + """
(FinalGridSpacingInPhysicalUnits "10.000000")
(GridSpacingSchedule "2.8284271247461903" "2" "1.4142135623730951" "1")
(Metric "AdvancedMattesMutualInformation" "TransformBendingEnergyPenalty")
(Metric0Weight "1.0")
(Metric1Weight "1.0")
(Registration "MultiMetricMultiResolutionRegistration")
(Transform "BSplineTransform")
"""

#: not in the map, where images are taken as their headers place them
CENTRED = '(AutomaticTransformInitialization "true")\n'

#: by the name that elastix gives them
MAPS = {"rigid": RIGID, "affine": AFFINE, "bspline": BSPLINE}

SOURCE = ("Klein et al., IEEE TMI 2010, doi:10.1109/TMI.2009.2035616; Klein et al., IJCV 2009, "
          "doi:10.1007/s11263-008-0168-y")

DIFFERS = ("gains are measured on gradients of as few samples as a step uses; a resolution gives on the best of its "
           "last and its averaged step; bins span the range without its most extreme 0.05 %; what is smooth is stored "
           "on a coarser grid")


def _row(*names: str) -> Parameters:
    texts = [(CENTRED if k == 0 else "") + MAPS[name] for k, name in enumerate(names)]
    return Parameters(tuple(map(parse, texts)), names)


ELASTIX_AFFINE = Baseline(
    name="elastix-affine", version="1.0",
    imitates="elastix: its default parameter maps rigid and affine, with AutomaticTransformInitialization",
    source=SOURCE, differs=DIFFERS, plan=_row("rigid", "affine"))

ELASTIX_BSPLINE = Baseline(
    name="elastix-bspline", version="1.0",
    imitates="elastix: its default parameter maps rigid, affine and bspline, with AutomaticTransformInitialization",
    source=SOURCE,
    differs=DIFFERS + "; the lattice lies on the fixed grid and not about the moving image; bending is that of the "
                      "whole lattice and not of the samples",
    plan=_row("rigid", "affine", "bspline"))
