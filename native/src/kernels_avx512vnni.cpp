// AVX-512 with the VNNI dot product.
#define XLMR_USE_AVX512
#define XLMR_ISA avx512vnni
#define XLMR_TABLE avx512vnni_kernels
#define XLMR_NAME "avx512vnni"
#include "kernels_impl.h"
