"""classreg as one of the programs that an external harness compares: a plugin for `PEERBENCH_PLUGINS`.

The harness runs this file in its own namespace, which gives `peer`, `THREADS` and `Map`. A peer gets a case
(paths, dimension), a model (rigid, affine or deformable) and a clock. While the clock counts the import, a
tiny head is registered with every metric, so that kernels are compiled or loaded; what is timed is images in
memory -> transform in memory. With CLASSREG_COLD set the tiny head is left out: with an empty NUMBA_CACHE_DIR the
time is then that of a first call, which compiles what it needs.
"""


def _classreg(case, model, clock, deformable, metric="auto", init="auto"):
    with clock.importing():
        import os

        import classreg
        from classreg.datasets import head_phantom
        from classreg.io import load

        name = deformable if model == "deformable" else model
        tiny = head_phantom(8.0, ndim=case.dim)
        for each in () if os.environ.get("CLASSREG_COLD") else ("ncc", "lncc", "mi"):
            classreg.register(tiny.fixed, tiny.moving, model=name, metric=each, threads=THREADS)  # noqa: F821
    fixed, moving = load(case.fixed), load(case.moving)
    with clock("register"):
        result = classreg.register(fixed, moving, model=name, metric=metric, init=init, threads=THREADS)  # noqa: F821

    def out():
        import numpy as np

        phi = result.transform.mapping()
        if phi.field is None:
            return Map(affine=phi.matrix)  # noqa: F821
        field = np.moveaxis(phi.field, 0, -1).swapaxes(0, case.dim - 1)  # (d, z, y, x) -> (x, y, z, d)
        return Map(affine=phi.matrix, disp=field)  # noqa: F821

    return out


@peer("classreg", note="defaults; deformable = bspline after rigid and affine")  # noqa: F821
def classreg_default(case, model, clock):
    return _classreg(case, model, clock, "bspline")


@peer("classreg-bspline", dist="classreg", models=("deformable",), note="bspline, defaults")  # noqa: F821
def classreg_bspline(case, model, clock):
    return _classreg(case, model, clock, "bspline")


@peer("classreg-bspline-mi", dist="classreg", models=("deformable",), note="bspline, mi")  # noqa: F821
def classreg_bspline_mi(case, model, clock):
    return _classreg(case, model, clock, "bspline", "mi")


@peer("classreg-greedy", dist="classreg", models=("deformable",), note="greedy, defaults")  # noqa: F821
def classreg_greedy(case, model, clock):
    return _classreg(case, model, clock, "greedy")


@peer("classreg-svf", dist="classreg", models=("deformable",), note="svf, defaults")  # noqa: F821
def classreg_svf(case, model, clock):
    return _classreg(case, model, clock, "svf")


@peer("classreg-bspline-known", dist="classreg", models=("deformable",),  # noqa: F821
      note="bspline from the motion that large_motion.py added")
def classreg_bspline_known(case, model, clock):
    return _classreg(case, model, clock, "bspline", init=f"{case.dir}/known_motion.h5")


@peer("classreg-greedy-known", dist="classreg", models=("deformable",),  # noqa: F821
      note="greedy from the motion that large_motion.py added")
def classreg_greedy_known(case, model, clock):
    return _classreg(case, model, clock, "greedy", init=f"{case.dir}/known_motion.h5")
