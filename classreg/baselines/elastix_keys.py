"""The parameters of elastix that a parameter file may hold here, what they may be, and what becomes of them.

Each is one of four: read into the plan; held, where the engine does one thing and the file must not ask for another;
left, where the engine has a way of its own, which the plan's notes say; or output, which concerns no transform. Names
and defaults as in elastix 5 (Klein et al., IEEE TMI 2010, doi:10.1109/TMI.2009.2035616).

Must not import: anything above `classreg.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass

#: what a parameter is
KINDS = ("read", "held", "left", "output")


@dataclass(frozen=True)
class Key:
    """A parameter.

    Attributes
    ----------
    kind : {"read", "held", "left", "output"}
    says : str
        What becomes of it in the plan, or why nothing does.
    values : tuple of str, or the type of its values
        The words that it may be, each one a part of the plan; or bool, int, float.
    default
        What elastix takes where the file does not have it.
    levels : bool
        Whether it may be one value per resolution instead of one for all.
    """

    kind: str
    says: str
    values: tuple[str, ...] | type = str
    default: object = None
    levels: bool = False


def _read(says, values, default=None, levels=False):
    return Key("read", says, values, default, levels)


def _held(says, *values):
    return Key("held", says, values, values[0])


def _left(says):
    return Key("left", says)


GAIN = "the first gain is measured on gradients of as few samples as a step uses"
CLIPPED = "bins span the range of an image without its most extreme 0.05 % at either end"
SCALED = "steps of linear models are scaled to mm of motion"
SEARCHED = "line search and stopping are the engine's own"

KEYS = {
    "Registration": _read("one stage per resolution", ("MultiResolutionRegistration",
                                                       "MultiMetricMultiResolutionRegistration"),
                          "MultiResolutionRegistration"),
    "NumberOfResolutions": _read("stages", int, 3),
    "FixedImagePyramid": _read("`sigma` of the levels", ("FixedSmoothingImagePyramid", "FixedRecursiveImagePyramid",
                                                         "FixedShrinkingImagePyramid"), "FixedSmoothingImagePyramid"),
    "MovingImagePyramid": _read("the same as the fixed one's", ("MovingSmoothingImagePyramid",
                                                                "MovingRecursiveImagePyramid",
                                                                "MovingShrinkingImagePyramid")),
    "ImagePyramidSchedule": _read("twice `sigma` of the levels, per resolution and axis x, y, z", float),
    "FixedImagePyramidSchedule": _read("the same", float),
    "MovingImagePyramidSchedule": _read("the same as the fixed one's", float),
    "Transform": _read("transform", ("TranslationTransform", "EulerTransform", "SimilarityTransform",
                                     "AffineTransform", "BSplineTransform", "RecursiveBSplineTransform"),
                       "AffineTransform"),
    "FinalGridSpacingInPhysicalUnits": _read("`spacing` of the spline at the last resolution, mm", float),
    "FinalGridSpacingInVoxels": _read("the same in samples of the fixed image", float, 16.0),
    "GridSpacingSchedule": _read("what the spacing is multiplied with, per resolution (and axis)", float),
    "AutomaticTransformInitialization": _read("`init`: identity where false", bool, False),
    "AutomaticTransformInitializationMethod": _read("`init`: geometry, mass", ("GeometricalCenter", "CenterOfGravity"),
                                                    "GeometricalCenter"),
    "Metric": _read("metric, or the regulariser `bending`", (
        "AdvancedMattesMutualInformation", "NormalizedMutualInformation", "AdvancedMeanSquares",
        "AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"), "AdvancedMattesMutualInformation"),
    "NumberOfHistogramBins": _read("`bins`", int, 32, True),
    "NumberOfFixedHistogramBins": _read("the same; both images have as many", int, None, True),
    "NumberOfMovingHistogramBins": _read("the same; both images have as many", int, None, True),
    "FixedKernelBSplineOrder": _read("`window`: box, hat", ("0", "1"), "0"),
    "Interpolator": _read("order of interpolation", ("LinearInterpolator", "BSplineInterpolator",
                                                     "BSplineInterpolatorFloat"), "BSplineInterpolator"),
    "BSplineInterpolationOrder": _read("order of interpolation", ("1", "3"), "1", True),
    "ImageSampler": _read("sampling", ("RandomCoordinate", "Random", "RandomSparseMask", "Full"),
                          "RandomCoordinate"),
    "NumberOfSpatialSamples": _read("`samples`", int, 5000, True),
    "NewSamplesEveryIteration": _read("`kept` where false", bool, False, True),
    "Optimizer": _read("optimiser", ("AdaptiveStochasticGradientDescent", "QuasiNewtonLBFGS",
                                     "RegularStepGradientDescent"), "AdaptiveStochasticGradientDescent"),
    "MaximumNumberOfIterations": _read("iterations of the levels", int, 500, True),
    "MaximumStepLength": _read("`length`, mm; by default the mean spacing of both images in the plane", float, None,
                               True),
    "MaximumStepLengthRatio": _read("what that default is multiplied with", float, 1.0, True),
    "SP_A": _read("`offset`", float, 20.0, True),
    "LBFGSUpdateAccuracy": _read("`memory` of lbfgs", int, 5, True),
    "RandomSeed": _read("`seed`", int, 121212),
    "FixedImageDimension": _read("must be that of the fixed image", int),
    "MovingImageDimension": _read("must be that of the moving image", int),

    "HowToCombineTransforms": _held("a stage begins where the one before ended", "Compose"),
    "InitialTransformParametersFileName": _held("give the transform as `init`", "NoInitialTransform"),
    "InitialTransformParameterFileName": _held("give the transform as `init`", "NoInitialTransform"),
    "BSplineTransformSplineOrder": _held("splines are cubic", "3"),
    "MovingKernelBSplineOrder": _held("the moving image's window is a cubic spline", "3"),
    "AutomaticParameterEstimation": _held("gains find themselves", "true"),
    "SigmoidInitialTime": _held("time begins at 0", "0"),
    "UseAdaptiveStepSizes": _held("steps adapt", "true"),
    "UseConstantStep": _held("steps adapt", "false"),
    "UseAllPixels": _held("the sampler says which", "false"),
    "UseRandomSampleRegion": _held("samples lie in the whole image", "false"),
    "UseDirectionCosines": _held("headers count", "true"),
    "UseCyclicTransform": _held("splines do not wrap around", "false"),
    "UseRelativeWeights": _held("weights are constant", "false"),
    "UseJacobianPreconditioning": _held("gradients are not preconditioned", "false"),
    "SubtractMean": _held("correlation is about the means", "true"),
    "PassiveEdgeWidth": _held("all control points move", "0"),

    "AutomaticScalesEstimation": _left(SCALED),
    "Scales": _left(SCALED),
    "CenterOfRotation": _left("linear models turn about the centre of the fixed image"),
    "CenterOfRotationPoint": _left("linear models turn about the centre of the fixed image"),
    "SP_a": _left(GAIN),
    "SP_alpha": _left(GAIN),
    "SigmoidMax": _left(GAIN),
    "SigmoidMin": _left(GAIN),
    "SigmoidScale": _left(GAIN),
    "ASGDParameterEstimationMethod": _left(GAIN),
    "NumberOfGradientMeasurements": _left(GAIN),
    "NumberOfJacobianMeasurements": _left(GAIN),
    "NumberOfSamplesForExactGradient": _left(GAIN),
    "NumberOfBandStructureSamples": _left(GAIN),
    "MaxBandCovSize": _left(GAIN),
    "SigmoidScaleFactor": _left(GAIN),
    "FixedLimitRangeRatio": _left(CLIPPED),
    "MovingLimitRangeRatio": _left(CLIPPED),
    "UseNormalization": _left("intensities of each image are brought to zero mean and unit deviation"),
    "FixedImageBSplineInterpolationOrder": _left("the fixed image is interpolated as the moving one"),
    "MaximumNumberOfSamplingAttempts": _left("samples are drawn within the fixed mask at once"),
    "CheckNumberOfSamples": _left("a step is refused that leaves less than a quarter of the first overlap"),
    "RequiredRatioOfValidSamples": _left("a step is refused that leaves less than a quarter of the first overlap"),
    "ErodeMask": _left("masks are taken as they are"),
    "ErodeFixedMask": _left("masks are taken as they are"),
    "ErodeMovingMask": _left("masks are taken as they are"),
    "FixedImagePixelType": _left("images are float32"),
    "MovingImagePixelType": _left("images are float32"),
    "FixedInternalImagePixelType": _left("images are float32"),
    "MovingInternalImagePixelType": _left("images are float32"),
    "UseFastAndLowMemoryVersion": _left("what is held in memory is the engine's own choice"),
    "UseMultiThreadingForMetrics": _left("all parts use all threads"),
    "MinimumStepLength": _left(SEARCHED),
    "MinimumGradientMagnitude": _left(SEARCHED),
    "RelaxationFactor": _left(SEARCHED),
    "StepLength": _left(SEARCHED),
    "MaximumNumberOfLineSearchIterations": _left(SEARCHED),
    "LineSearchValueTolerance": _left(SEARCHED),
    "LineSearchGradientTolerance": _left(SEARCHED),
    "GradientMagnitudeTolerance": _left(SEARCHED),
    "StopIfWolfeNotSatisfied": _left(SEARCHED),

    **dict.fromkeys(("WriteResultImage", "WriteResultImageAfterEachResolution", "WriteResultImageAfterEachIteration",
                     "WriteIterationInfo", "WriteTransformParametersEachIteration",
                     "WriteTransformParametersEachResolution", "WriteSamplesEveryIteration",
                     "WritePyramidImagesAfterEachResolution", "WriteITKCompositeTransform",
                     "ITKTransformOutputFileNameExtension", "ResultImageFormat", "ResultImagePixelType",
                     "CompressResultImage", "ShowExactMetricValue", "ExactMetricSampleGridSpacing",
                     "ExactMetricEveryXIterations", "DefaultPixelValue", "Resampler", "ResampleInterpolator",
                     "FinalBSplineInterpolationOrder", "OutputTransformParameterFileFormat"), Key("output", "ignored")),
}

#: of the metrics of a file, counted from 0: Metric0Weight, Metric1Weight, ...
WEIGHT = Key("read", "weights of the parts of the metric, and of `bending`", float, None, True)
