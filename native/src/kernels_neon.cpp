// Armv8.2 with the dot product.
#define XLMR_USE_NEON
#define XLMR_ISA neon
#define XLMR_TABLE neon_kernels
#define XLMR_NAME "neon"
#include "kernels_impl.h"
