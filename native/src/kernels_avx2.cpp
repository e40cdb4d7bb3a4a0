// AVX2 and FMA.
#define XLMR_USE_AVX2
#define XLMR_ISA avx2
#define XLMR_TABLE avx2_kernels
#define XLMR_NAME "avx2"
#include "kernels_impl.h"
