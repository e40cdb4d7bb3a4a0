// Runs the VEX form of vpdpbusd (AVX-VNNI) on processors that lack it, for tests: the processor
// refuses the instruction, the kernel sends SIGILL, the handler computes it and steps over it.
#pragma once

namespace xlmr::test {

// Installs the handler for the rest of the process; false where that is not possible.
bool emulate_vex_dot();

}  // namespace xlmr::test
