// The architecture as numbers; the same fields as xlmr.model.config.EncoderConfig.
#pragma once
#include <cstdint>

#include "kernels.h"

namespace xlmr {

struct Shape {
  int64_t vocabulary = 0;
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t intermediate = 0;
  int64_t position_rows = 0;
  int64_t pad_id = 0;
  double norm_epsilon = 0;
  int64_t pre_norm = 0;

  long width() const { return round_up(hidden, kPanel); }         // hidden, padded to whole panels
  long wide() const { return round_up(intermediate, kPanel); }    // intermediate, padded likewise
  long head_width() const { return hidden / heads; }
  long max_tokens() const { return position_rows - pad_id - 1; }
  bool operator==(const Shape& o) const {
    return vocabulary == o.vocabulary && hidden == o.hidden && layers == o.layers && heads == o.heads &&
           intermediate == o.intermediate && position_rows == o.position_rows && pad_id == o.pad_id &&
           norm_epsilon == o.norm_epsilon && pre_norm == o.pre_norm;
  }
};

}  // namespace xlmr
