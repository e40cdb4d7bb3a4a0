// The prepared weight file: everything the engine reads, in the layout it reads it, mapped not copied.
//
// A 4,096-byte header (magic, version, shape, precision, digest of the source weights, checksum of
// the payload, checksum of the header itself), then the payload: every section on a 64-byte boundary
// in the order of Weights::visit. The layout does not depend on the instruction set.
#pragma once
#include <time.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "shape.h"

namespace xlmr {

// The file is missing, truncated, corrupted, of another model or of another version.
struct WeightsFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The weights to be prepared hold a NaN or an infinity.
struct BrokenWeights : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Norm {
  const float* gain = nullptr;
  const float* bias = nullptr;
};

struct Layer {
  Matrix qkv;     // queries (scaled by 1/sqrt(head width)), keys, values: three times `width` columns
  Matrix output;
  Matrix up;
  Matrix down;
  Norm attention_norm;
  Norm output_norm;
};

class Weights {
 public:
  // Maps a prepared file and checks all of it. Throws WeightsFault.
  Weights(const std::string& path, const Shape& shape, Precision precision, const std::string& digest);
  ~Weights();
  // Throws WeightsFault when the file has been cut or written to since it was mapped. A cut file's
  // pages cannot be read any more: touching one ends the process.
  void check_unchanged() const;
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  Shape shape;
  Precision precision;
  const void* words = nullptr;         // [vocabulary][width]: int8, bf16 or float by precision
  const float* word_scale = nullptr;   // int8 only: [vocabulary]
  const float* positions = nullptr;    // [position_rows][width], the token type's row added
  Norm embedding_norm;                 // post-norm models
  Norm final_norm;                     // pre-norm models
  std::vector<Layer> layers;

 private:
  void* mapped_ = nullptr;
  size_t size_ = 0;
  int handle_ = -1;
  timespec written_{};  // when the file last was
  std::string path_;
};

// Gives the float32 array of that name (see xlmr.model.weights), row-major, with `count` elements. For
// int8 it is also asked for `layers.N.qkv.smoothing` and `layers.N.up.smoothing`: what each element of
// that product's input is divided by, and its column of the matrix multiplied by; all above zero.
using Source = std::function<const float*(const std::string& name, size_t count)>;
// Called after each part with what is done and what there is to do, in bytes.
using Progress = std::function<void(uint64_t done, uint64_t total)>;

// Quantises, packs and writes; the caller renames into place. Throws WeightsFault when the disk is full,
// BrokenWeights naming the array.
void prepare_weights(const std::string& path, const Shape& shape, Precision precision, const std::string& digest,
                     const Source& source, const Progress& progress);

}  // namespace xlmr
