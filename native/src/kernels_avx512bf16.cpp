// AVX-512 with the VNNI and BF16 dot products.
#define XLMR_USE_AVX512
#define XLMR_USE_BF16
#define XLMR_ISA avx512bf16
#define XLMR_TABLE avx512bf16_kernels
#define XLMR_NAME "avx512bf16"
#include "kernels_impl.h"
