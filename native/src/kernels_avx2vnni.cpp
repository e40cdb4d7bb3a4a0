// AVX2 with the 256-bit VNNI dot product.
#define XLMR_USE_AVX2
#define XLMR_USE_AVXVNNI
#define XLMR_ISA avx2vnni
#define XLMR_TABLE avx2vnni_kernels
#define XLMR_NAME "avx2vnni"
#include "kernels_impl.h"
