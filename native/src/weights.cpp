#include "weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

#include "crew.h"
#include "layout.h"

namespace xlmr {

// Eight independent multiply-and-rotate lanes; made to notice damage at memory speed, not to resist
// an attacker (signatures do that).
uint64_t checksum(const void* data, size_t bytes, uint64_t seed) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;
  uint64_t lane[8];
  for (int i = 0; i < 8; i++) lane[i] = (seed + uint64_t(i) + 1) * kOdd;
  const char* p = static_cast<const char*>(data);
  const auto mix = [&](const uint64_t* words) {
    for (int i = 0; i < 8; i++) {
      lane[i] = (lane[i] ^ words[i]) * kOdd;
      lane[i] ^= lane[i] >> 29;
    }
  };
  uint64_t words[8];
  size_t left = bytes;
  for (; left >= 64; left -= 64, p += 64) {
    std::memcpy(words, p, 64);
    mix(words);
  }
  std::memset(words, 0, 64);
  std::memcpy(words, p, left);
  mix(words);
  uint64_t all = bytes;
  for (uint64_t l : lane) {
    all = (all ^ l) * kOdd;
    all ^= all >> 31;
  }
  return all;
}

namespace {

struct File {
  int handle;
  explicit File(const std::string& path) : handle(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (handle >= 0) close(handle);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int release() {
    const int released = handle;
    handle = -1;
    return released;
  }
};

bool read_all(int handle, char* to, size_t bytes, size_t from) {
  while (bytes > 0) {
    const ssize_t got = pread(handle, to, bytes, off_t(from));
    if (got <= 0) return false;
    to += got;
    from += size_t(got);
    bytes -= size_t(got);
  }
  return true;
}

// Read through a small buffer rather than the mapping: pages of the embedding table that no text
// ever needs must not count as this process's memory.
uint64_t payload_checksum(int handle, size_t payload) {
  const size_t pieces = (payload + kPiece - 1) / kPiece, piece = std::min(kPiece, payload);
  const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1u, unsigned(std::min<size_t>(8, pieces)));
  const std::unique_ptr<char[]> buffers(new char[threads * piece]);
  std::vector<uint64_t> sums(pieces, 0);
  std::atomic<size_t> next{0};
  on_threads(threads, [&](unsigned thread) {
    char* buffer = buffers.get() + thread * piece;
    for (size_t i = next++; i < pieces; i = next++) {
      const size_t bytes = std::min(kPiece, payload - i * kPiece);
      if (read_all(handle, buffer, bytes, kHeaderBytes + i * kPiece)) sums[i] = checksum(buffer, bytes, 0);
    }
  });
  uint64_t all = 0;
  for (uint64_t sum : sums) all = checksum(&sum, sizeof sum, all);
  return all;
}

}  // namespace

Weights::Weights(const std::string& path, const Shape& wanted, Precision wanted_precision, const std::string& digest)
    : shape(wanted), precision(wanted_precision), path_(path) {
  const auto fail = [&](const char* what) { throw WeightsFault(path + ": " + what); };
  File file(path);
  if (file.handle < 0) fail("cannot be opened");
  struct stat status {};
  if (fstat(file.handle, &status) != 0) fail("cannot be read");
  Header header{};
  char first[kHeaderBytes];
  if (size_t(status.st_size) < kHeaderBytes || !read_all(file.handle, first, sizeof first, 0))
    fail("truncated: no complete header");
  std::memcpy(&header, first, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) fail("not a prepared weight file");
  if (header.version != kVersion) fail("prepared by another version");
  if (header.own != checksum(&header, offsetof(Header, own), kVersion)) fail("corrupted: the header's checksum differs");
  if (std::any_of(first + sizeof header, first + sizeof first, [](char byte) { return byte != 0; }))
    fail("corrupted: the header is not zero behind its end");
  if (!(header.shape == wanted) || header.precision != uint32_t(wanted_precision)) fail("prepared for another model");
  if (std::string(header.digest, strnlen(header.digest, sizeof header.digest)) != digest)
    fail("stale: the model's weights have changed since");
  const size_t payload = payload_bytes(wanted, wanted_precision);
  if (header.payload != payload || size_t(status.st_size) != kHeaderBytes + payload) fail("truncated: bytes are missing");
  if (payload_checksum(file.handle, payload) != header.checksum) fail("corrupted: the weights' checksum differs");

  size_ = kHeaderBytes + payload;
  mapped_ = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.handle, 0);
  if (mapped_ == MAP_FAILED) fail("cannot be mapped");
  handle_ = file.release();
  written_ = status.st_mtim;
  layers.resize(size_t(shape.layers));
  const char* at = static_cast<const char*>(mapped_) + kHeaderBytes;
  visit_sections(shape, precision, [&](Section kind, const std::string& name, long, long depth, size_t bytes) {
    const float* floats = reinterpret_cast<const float*>(at);
    Layer* layer = nullptr;
    std::string owner = name;
    if (name.rfind("layers.", 0) == 0) {
      const size_t dot = name.find('.', 7);
      layer = &layers[std::stoul(name.substr(7, dot - 7))];
      owner = name.substr(dot + 1);
    }
    Norm* norm = owner == "attention_norm" ? &layer->attention_norm
                 : owner == "output_norm"  ? &layer->output_norm
                 : owner == "final_norm"   ? &final_norm
                                           : &embedding_norm;
    Matrix* matrix = layer == nullptr     ? nullptr
                     : owner == "qkv"     ? &layer->qkv
                     : owner == "output"  ? &layer->output
                     : owner == "up"      ? &layer->up
                                          : &layer->down;
    switch (kind) {
      case Section::kWords: words = at; break;
      case Section::kWordScale: word_scale = floats; break;
      case Section::kPositions: positions = floats; break;
      case Section::kGain: norm->gain = floats; break;
      case Section::kBias: norm->bias = floats; break;
      case Section::kMatrix:
        matrix->panels = reinterpret_cast<const uint32_t*>(at);
        matrix->steps = round_up(depth, kPanel) / per_word(precision);
        matrix->columns = long(bytes / 4) / matrix->steps;
        break;
      case Section::kSmoothing: matrix->smoothing = floats; break;
      case Section::kMatrixScale: matrix->scale = floats; break;
      case Section::kMatrixBias: matrix->bias = floats; break;
    }
    at += on_line(bytes);
  });
}

Weights::~Weights() {
  munmap(mapped_, size_);
  close(handle_);
}

void Weights::check_unchanged() const {
  struct stat status {};
  const bool same = fstat(handle_, &status) == 0 && size_t(status.st_size) == size_ &&
                    status.st_mtim.tv_sec == written_.tv_sec && status.st_mtim.tv_nsec == written_.tv_nsec;
  if (!same) throw WeightsFault(path_ + ": written to while in use");
}

}  // namespace xlmr
