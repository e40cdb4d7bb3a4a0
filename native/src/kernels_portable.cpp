// Plain C++ for any processor.
#define XLMR_PORTABLE
#define XLMR_ISA portable
#define XLMR_TABLE portable_kernels
#define XLMR_NAME "portable"
#include "kernels_impl.h"
