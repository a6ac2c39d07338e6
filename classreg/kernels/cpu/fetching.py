"""`fetch`: tell the processor that a place in memory is soon read, so that it need not wait for it then.

A walk along a row of samples that is tilted to the rows of the image it reads from meets memory in an order that no
processor foresees: waiting takes longer there than all arithmetic.
"""

from numba.core import cgutils, types
from numba.extending import intrinsic

ir = cgutils.ir  # Numba's own way to LLVM

#: values of an image above which it is fetched ahead: of smaller ones enough stays in the caches
LARGE = 1 << 22

#: one in so many samples of a row is fetched for
STRIDE = 2


@intrinsic
def fetch(typing, array, index):
    """Begin to load array[index] of a flat array into the caches; changes nothing else."""

    def generate(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(prefetch, [place, *(ir.Constant(number, v) for v in (0, 3, 1))])  # to read, keep near, data
        return context.get_dummy_value()

    return types.void(array, index), generate
