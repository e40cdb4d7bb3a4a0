#include "vex_dot.h"

#if defined(__x86_64__) && defined(__linux__)
#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace xlmr::test {
namespace {

// The extended state in a signal frame (Intel SDM volume 1, 13.4): the low halves of the ymm
// registers in the legacy area, the bitmap of saved components in the header, the high halves at
// 576 in the standard format, which is what the kernel writes.
constexpr long kLow = 160, kBitmap = 512, kHigh = 576;
constexpr uint64_t kHighSaved = 1u << 2;

struct Registers {
  char* area;
  void read(int number, void* to) const {
    std::memcpy(to, area + kLow + 16 * number, 16);
    std::memset(static_cast<char*>(to) + 16, 0, 16);
    uint64_t saved;
    std::memcpy(&saved, area + kBitmap, 8);
    if (saved & kHighSaved) std::memcpy(static_cast<char*>(to) + 16, area + kHigh + 16 * number, 16);
  }
  void write(int number, const void* from) const {
    std::memcpy(area + kLow + 16 * number, from, 16);
    uint64_t saved;
    std::memcpy(&saved, area + kBitmap, 8);
    if (!(saved & kHighSaved)) std::memset(area + kHigh, 0, 256);
    saved |= kHighSaved | 2;
    std::memcpy(area + kBitmap, &saved, 8);
    std::memcpy(area + kHigh + 16 * number, static_cast<const char*>(from) + 16, 16);
  }
};

// vpdpbusd between ymm registers: C4 [R X B 00010] [0 vvvv 1 01] 50 [11 reg rm]; R, X, B and vvvv
// are stored inverted.
void on_illegal(int, siginfo_t*, void* context) {
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
  const auto* code = reinterpret_cast<const uint8_t*>(machine.gregs[REG_RIP]);
  const bool known = code[0] == 0xc4 && (code[1] & 0x1f) == 2 && (code[2] & 0x87) == 5 && code[3] == 0x50 &&
                     code[4] >= 0xc0;
  if (!known) {  // a true fault: let it happen again and end the process
    signal(SIGILL, SIG_DFL);
    return;
  }
  const int to = (code[4] >> 3 & 7) | (code[1] & 0x80 ? 0 : 8);
  const int left = ~(code[2] >> 3) & 15;
  const int right = (code[4] & 7) | (code[1] & 0x20 ? 0 : 8);
  const Registers registers{reinterpret_cast<char*>(machine.fpregs)};
  int32_t sums[8];
  uint8_t unsigned_bytes[32];
  int8_t signed_bytes[32];
  registers.read(to, sums);
  registers.read(left, unsigned_bytes);
  registers.read(right, signed_bytes);
  for (int i = 0; i < 32; i++) {
    const int32_t product = int32_t(unsigned_bytes[i]) * signed_bytes[i];
    sums[i / 4] = int32_t(uint32_t(sums[i / 4]) + uint32_t(product));
  }
  registers.write(to, sums);
  machine.gregs[REG_RIP] += 5;
}

}  // namespace

bool emulate_vex_dot() {
  struct sigaction action {};
  action.sa_sigaction = on_illegal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  return sigaction(SIGILL, &action, nullptr) == 0;
}

}  // namespace xlmr::test

#else

namespace xlmr::test {
bool emulate_vex_dot() { return false; }
}  // namespace xlmr::test

#endif
