// Where each section of the payload lies; shared by the writer and the reader.
#pragma once
#include <cstddef>
#include <string>

#include "shape.h"

namespace xlmr {

constexpr size_t kHeaderBytes = 4096;
constexpr uint32_t kVersion = 3;  // 2: never made of weights that are not finite; 3: smoothed

inline long per_word(Precision p) { return p == Precision::kInt8 ? 4 : p == Precision::kBf16 ? 2 : 1; }
inline size_t element_bytes(Precision p) { return size_t(4 / per_word(p)); }

// Visits every section in file order: visit(kind, name, rows, columns, bytes). `name` is the encoder's
// name without ".weight"; rows and columns are unpadded.
enum class Section { kWords, kWordScale, kPositions, kGain, kBias, kSmoothing, kMatrix, kMatrixScale, kMatrixBias };

template <class Visit>
void visit_sections(const Shape& s, Precision p, const Visit& visit) {
  const size_t element = element_bytes(p), width = size_t(s.width());
  auto norm = [&](const std::string& name) {
    visit(Section::kGain, name, 1L, long(s.hidden), width * 4);
    visit(Section::kBias, name, 1L, long(s.hidden), width * 4);
  };
  auto matrix = [&](const std::string& name, long columns, long depth) {
    const size_t padded = size_t(name.find("qkv") == std::string::npos ? round_up(columns, kPanel) : 3 * s.width());
    visit(Section::kMatrix, name, columns, depth, padded * size_t(round_up(depth, kPanel)) * element);
    if (p == Precision::kInt8) visit(Section::kMatrixScale, name, columns, depth, padded * 4);
    visit(Section::kMatrixBias, name, columns, depth, padded * 4);
  };
  // What a column of activations is multiplied by before it becomes bytes; the matrix that follows was
  // divided by it.
  auto smoothed = [&](const std::string& name, long columns, long depth) {
    if (p == Precision::kInt8) visit(Section::kSmoothing, name, 1L, depth, size_t(round_up(depth, kPanel)) * 4);
    matrix(name, columns, depth);
  };
  visit(Section::kWords, "embeddings.word", long(s.vocabulary), long(s.hidden), size_t(s.vocabulary) * width * element);
  if (p == Precision::kInt8)
    visit(Section::kWordScale, "embeddings.word", long(s.vocabulary), 1L, size_t(s.vocabulary) * 4);
  visit(Section::kPositions, "embeddings.position", long(s.position_rows), long(s.hidden),
        size_t(s.position_rows) * width * 4);
  if (!s.pre_norm) norm("embeddings.norm");
  for (long i = 0; i < s.layers; i++) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    smoothed(layer + "qkv", 3 * s.hidden, s.hidden);
    matrix(layer + "output", s.hidden, s.hidden);
    norm(layer + "attention_norm");
    smoothed(layer + "up", s.intermediate, s.hidden);
    matrix(layer + "down", s.hidden, s.intermediate);
    norm(layer + "output_norm");
  }
  if (s.pre_norm) norm("final_norm");
}

inline size_t on_line(size_t bytes) { return (bytes + 63) / 64 * 64; }

inline size_t payload_bytes(const Shape& s, Precision p) {
  size_t total = 0;
  visit_sections(s, p, [&](Section, const std::string&, long, long, size_t bytes) { total += on_line(bytes); });
  return total;
}

// The header as it stands in the file; little endian, the rest of the 4,096 bytes is zero.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t precision;
  Shape shape;
  char digest[64];
  uint64_t payload;   // bytes
  uint64_t checksum;  // of the payload
  uint64_t own;       // of all fields above
};
static_assert(sizeof(Header) <= kHeaderBytes);
constexpr char kMagic[8] = {'X', 'L', 'M', 'R', 'N', 'A', 'T', 'V'};

// Payload checksums are made of the checksums of pieces this long, so they can be taken in parallel.
constexpr size_t kPiece = size_t(4) << 20;
uint64_t checksum(const void* data, size_t bytes, uint64_t seed);

}  // namespace xlmr
