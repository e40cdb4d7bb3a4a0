// Attention of one head over one text: keys in blocks, softmax online, so the scores of a long text
// are never held whole. Part of kernels_impl.h.
//
// Keys are packed as words transposed ([word of the head][64 keys]); values are read in steps of the
// sum over keys ([key, or pair of keys][column]). A word is one float or two bf16.

constexpr long kQueryBlock = 12;
constexpr long kKeyBlock = 512;
// A row of scores; not a power of two, or the rows of a tile would fight for the same cache sets.
constexpr long kScoreStride = kKeyBlock + kStrip;

// Panels of 64 keys: word w of key r of a panel goes to [w][r]. Missing keys of a strip are zero;
// strips without a key are left as they are, nobody reads them.
static void pack_keys(const uint32_t* from, long stride, long keys, long words, uint32_t* to) {
  for (long first = 0; first < keys; first += kPanel, to += words * kPanel) {
    const long rows = keys - first < kPanel ? keys - first : kPanel;
    const long padded = round_up(rows, kStrip);
    for (long w = 0; w < words; w += kLanes) {
      const long count = words - w < kLanes ? words - w : kLanes;
      for (long r = 0; r < padded; r += kLanes) {
        const long filled = rows - r < kLanes ? (rows - r > 0 ? rows - r : 0) : kLanes;
        const uint32_t* corner = from + (first + r) * stride + w;
        uint32_t* out = to + w * kPanel + r;
        if (count == kLanes && filled == kLanes) {
          transpose(corner, stride, out, kPanel);
          continue;
        }
        for (long i = 0; i < count; i++)
          for (long j = 0; j < kLanes; j++) out[i * kPanel + j] = j < filled ? corner[j * stride + i] : 0;
      }
    }
  }
}

// Pairs of value rows side by side: word [pair][column] = (row 2p, row 2p + 1).
static void pack_value_pairs(const uint16_t* __restrict from, long stride, long keys, long width, long padded,
                             uint32_t* __restrict to) {
  for (long k = 0; k < keys; k += 2, to += padded) {
    const uint16_t* low = from + k * stride;
    const uint16_t* high = low + stride;
    const bool paired = k + 1 < keys;
    if (paired) {
      for (long i = 0; i < width; i++) to[i] = uint32_t(low[i]) | uint32_t(high[i]) << 16;
    } else {
      for (long i = 0; i < width; i++) to[i] = low[i];
    }
    for (long i = width; i < padded; i++) to[i] = 0;
  }
}

// Turns one row of scores into weights against the running maximum, in place, in the format of the
// next product; returns the factor by which everything summed before shrinks. Scores beyond `keys`
// become e^-87, which no float sum can see.
//
// A score that is NaN or infinite makes the running sum NaN. It would not do so by itself: the
// maximum, and the bounds of the exponential, may drop a NaN, and a score of minus infinity has
// weight zero.
template <bool kHalf>
static inline float softmax_row(float* scores, long keys, long padded, float* running_top, float* running_sum) {
  for (long i = keys; i < padded; i++) scores[i] = -3e38f;
  Float tops = broadcast(*running_top);
  for (long i = 0; i < padded; i += kLanes) tops = max(tops, load(scores + i));
  const float top = largest(tops);
  const Float shift = broadcast(kHalf ? -top * kLog2E : top);
  Float total = broadcast(0.0f), nothing = broadcast(0.0f);
  uint16_t* halves = reinterpret_cast<uint16_t*>(scores);  // written behind what is still to be read
  for (long i = 0; i < padded; i += kLanes) {
    if constexpr (kHalf) {
      const Float score = load(scores + i);
      nothing = fma(score, broadcast(0.0f), nothing);
      const Float weight = power_of_two_quick(fma(score, broadcast(kLog2E), shift));
      total = add(total, weight);
      store_half_vector(halves + i, weight);
    } else {
      const Float score = load(scores + i);
      nothing = fma(score, broadcast(0.0f), nothing);
      const Float weight = exponential(sub(score, shift));
      total = add(total, weight);
      store(scores + i, weight);
    }
  }
  const float shrink = *running_top == -INFINITY ? 0.0f : std::exp(*running_top - top);
  *running_sum = *running_sum * shrink + sum(add(total, nothing));
  *running_top = top;
  return shrink;
}

// Where attend() keeps what; the sizes are attention_scratch()'s. Nothing grows with the text.
struct AttentionSpace {
  uint32_t* keys;    // of one block of keys
  uint32_t* values;  // likewise, where they have to be packed
  float* scores;     // [kQueryBlock][kScoreStride]
  float* mixed;      // [kQueryChunk][padded width]: sums so far, against the running maximum
  float* top;        // [kQueryChunk]
  float* total;      // [kQueryChunk]

  AttentionSpace(char* scratch, long width) {
    const long padded = round_up(width, kStrip);
    keys = reinterpret_cast<uint32_t*>(scratch);
    values = keys + kKeyBlock * width;
    scores = reinterpret_cast<float*>(values + kKeyBlock / 2 * padded);
    mixed = scores + kQueryBlock * kScoreStride;
    top = mixed + kQueryChunk * padded;
    total = top + kQueryChunk;
  }
};

// One block of keys and values, in the order the products read them.
struct KeyBlock {
  long count;
  const uint32_t* keys;
  const uint32_t* values;
  long value_stride;
};

template <bool kHalf>
static KeyBlock pack_block(const Attention& job, const AttentionSpace& space, long first) {
  constexpr long kPerWord = kHalf ? 2 : 1;
  const long stride = job.stride / kPerWord, words = job.width / kPerWord;
  const long count = job.length - first < kKeyBlock ? job.length - first : kKeyBlock;
  pack_keys(static_cast<const uint32_t*>(job.key) + first * stride, stride, count, words, space.keys);
  if constexpr (kHalf) {
    const long padded = round_up(job.width, kStrip);
    pack_value_pairs(static_cast<const uint16_t*>(job.value) + first * job.stride, job.stride, count, job.width, padded,
                     space.values);
    return {count, space.keys, space.values, padded};
  } else {
    return {count, space.keys, static_cast<const uint32_t*>(job.value) + first * stride, stride};
  }
}

// Adds one block of keys to the sums of `rows` queries.
template <class Dot, bool kHalf>
static void mix(const Attention& job, const AttentionSpace& space, const KeyBlock& keys, long query, long rows,
                float* mixed, float* top, float* total) {
  constexpr long kPerWord = kHalf ? 2 : 1;
  const long stride = job.stride / kPerWord, words = job.width / kPerWord;
  const long padded_width = round_up(job.width, kStrip), padded_keys = round_up(keys.count, kStrip);
  const uint32_t* queries = static_cast<const uint32_t*>(job.query) + query * stride;
  float shrink[kQueryBlock];
  for (long k = 0; k < keys.count; k += kPanel) {
    const long strips = (padded_keys - k < kPanel ? padded_keys - k : kPanel) / kStrip;
    block<Dot>(rows, strips, queries, stride, keys.keys + k * words, kPanel, words,
               [&](long i, long j, Float v) { store(space.scores + i * kScoreStride + k + j, v); });
  }
  for (long r = 0; r < rows; r++)
    shrink[r] = softmax_row<kHalf>(space.scores + r * kScoreStride, keys.count, padded_keys, &top[r], &total[r]);
  // No case for the first block: a branch in here makes GCC keep the tile's accumulators in memory.
  block<Dot>(rows, padded_width / kStrip, reinterpret_cast<const uint32_t*>(space.scores), kScoreStride, keys.values,
             keys.value_stride, (keys.count + kPerWord - 1) / kPerWord, [&](long i, long j, Float v) {
               float* sum = mixed + i * padded_width + j;
               store(sum, fma(load(sum), broadcast(shrink[i]), v));
             });
}

// Blocks of keys outside, queries inside: a block is packed once for a whole chunk of queries and
// stays in the second-level cache meanwhile.
template <class Dot, bool kHalf>
static void attend_as(const Attention& job, char* scratch) {
  const AttentionSpace space(scratch, job.width);
  const long padded_width = round_up(job.width, kStrip), whole = job.width / kLanes * kLanes;
  for (long chunk = job.query_begin; chunk < job.query_end; chunk += kQueryChunk) {
    const long queries = job.query_end - chunk < kQueryChunk ? job.query_end - chunk : kQueryChunk;
    std::memset(space.mixed, 0, size_t(queries * padded_width) * sizeof(float));
    for (long r = 0; r < queries; r++) space.top[r] = -INFINITY, space.total[r] = 0;
    for (long first = 0; first < job.length; first += kKeyBlock) {
      const KeyBlock keys = pack_block<kHalf>(job, space, first);
      for (long q = 0; q < queries; q += kQueryBlock) {
        const long rows = queries - q < kQueryBlock ? queries - q : kQueryBlock;
        mix<Dot, kHalf>(job, space, keys, chunk + q, rows, space.mixed + q * padded_width, space.top + q,
                        space.total + q);
      }
    }
    for (long r = 0; r < queries; r++) {
      const float by = 1.0f / space.total[r];
      float* out = job.out + (chunk - job.query_begin + r) * job.out_stride;
      const float* mixed = space.mixed + r * padded_width;
      for (long i = 0; i < whole; i += kLanes) store(out + i, mul(load(mixed + i), broadcast(by)));
      for (long i = whole; i < job.width; i++) out[i] = mixed[i] * by;
    }
  }
}

static void attend(const Attention& job, bool half, char* scratch) {
  if constexpr (kBf16Dot) {
    if (half) return attend_as<Halves, true>(job, scratch);
  }
  (void)half;
  attend_as<Floats, false>(job, scratch);
}
