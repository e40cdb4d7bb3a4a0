// What a fuzz target offers; the entry point is libFuzzer's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// A valid input, for the driver to damage.
std::vector<uint8_t> example();

// The input read from the front; zero when there is no more.
struct Input {
  const uint8_t* data;
  size_t left;
  uint8_t byte() {
    if (left == 0) return 0;
    left--;
    return *data++;
  }
  uint32_t word() {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value |= uint32_t(byte()) << (8 * i);
    return value;
  }
};
