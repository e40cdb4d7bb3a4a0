#include "language.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace xlmr {

namespace {

constexpr uint32_t kHashBasis = 2166136261u;
constexpr std::string_view kEndOfLine = "</s>", kLabel = "__label__";

// FNV-1a over signed characters.
uint32_t hashed(uint32_t hash, char byte) { return (hash ^ uint32_t(int8_t(byte))) * 16777619u; }

bool begins_character(char byte) { return (uint8_t(byte) & 0xC0) != 0x80; }

// How many bits are set; the compiler's own would be a call where the instruction cannot be assumed.
uint32_t ones(uint64_t bits) {
  bits -= (bits >> 1) & 0x5555555555555555u;
  bits = (bits & 0x3333333333333333u) + ((bits >> 2) & 0x3333333333333333u);
  return uint32_t((((bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u) >> 56);
}

// fastText's logarithm, which has no -infinity.
float logarithm(float x) { return float(std::log(double(x) + 1e-5)); }

float dot(const float* a, const float* b, int count) {
  float sums[4] = {0, 0, 0, 0};
  for (int i = 0; i < count; i += 4)
    for (int lane = 0; lane < 4; lane++) sums[lane] += a[i + lane] * b[i + lane];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

// The file from front to end; what is not there is a fault.
class ModelFile {
 public:
  explicit ModelFile(std::string_view content) : left_(content) {}

  const char* bytes(size_t count) {
    if (count > left_.size()) throw LanguageFault("truncated: bytes are missing");
    const char* at = left_.data();
    left_.remove_prefix(count);
    return at;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, bytes(sizeof value), sizeof value);
    return value;
  }
  std::string text() {
    const size_t end = left_.find('\0');
    if (end == left_.npos) throw LanguageFault("truncated: a word has no end");
    const std::string found(left_.substr(0, end));
    left_.remove_prefix(end + 1);
    return found;
  }
  std::vector<float> floats(size_t count) {
    if (count > left_.size() / sizeof(float)) throw LanguageFault("truncated: bytes are missing");
    std::vector<float> values(count);
    if (count > 0) std::memcpy(values.data(), bytes(count * sizeof(float)), count * sizeof(float));
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::abs(x) < 1e6f; }))
      throw LanguageFault("corrupted: a weight is no sensible number");
    return values;
  }
  // A number that can have only this value in a model that is read here.
  template <class T>
  void expect(int64_t value, const char* what) {
    if (int64_t(number<T>()) != value) throw LanguageFault(std::string("corrupted or of another kind: ") + what);
  }
  template <class T>
  T within(int64_t low, int64_t high, const char* what) {
    const T value = number<T>();
    if (int64_t(value) < low || int64_t(value) > high)
      throw LanguageFault(std::string("corrupted or of another kind: ") + what);
    return value;
  }
  void end() const {
    if (!left_.empty()) throw LanguageFault("corrupted: bytes behind the end");
  }

 private:
  std::string_view left_;
};

void Words::put(uint32_t code, CharacterKind kind) {
  surrogate_ |= kind == CharacterKind::kSurrogate;
  if (kind != CharacterKind::kLetter && kind != CharacterKind::kWithin) {
    if (inside_) words_.push_back('>');
    inside_ = false;
    return;
  }
  letter_ |= kind == CharacterKind::kLetter;
  if (!inside_) words_.push_back('<');
  inside_ = true;
  const auto follow = [&](int shift) { words_.push_back(char(0x80 | ((code >> shift) & 0x3F))); };
  if (code < 0x80) {
    words_.push_back(char(code));
  } else if (code < 0x800) {
    words_.push_back(char(0xC0 | (code >> 6)));
    follow(0);
  } else if (code < 0x10000) {
    words_.push_back(char(0xE0 | (code >> 12)));
    follow(6), follow(0);
  } else {
    words_.push_back(char(0xF0 | (code >> 18)));
    follow(12), follow(6), follow(0);
  }
}

bool Words::close() {
  put(0, CharacterKind::kBetween);
  return letter_ && !surrogate_;
}

LanguageModel::LanguageModel(std::string_view content) {
  ModelFile file(content);
  file.expect<int32_t>(793712314, "not a fastText model");
  file.expect<int32_t>(12, "the version of the file");
  file.expect<int32_t>(kDimension, "the length of its vectors");
  for (int i = 0; i < 4; i++) file.number<int32_t>();  // how it was trained
  file.expect<int32_t>(1, "n-grams of words");
  file.expect<int32_t>(1, "not a hierarchical softmax");
  file.expect<int32_t>(3, "not a classifier");
  buckets_ = uint32_t(file.within<int32_t>(1, 1 << 26, "the number of buckets"));
  shortest_ = file.within<int32_t>(2, 16, "the shortest n-gram");
  longest_ = file.within<int32_t>(shortest_, 16, "the longest n-gram");
  file.number<int32_t>();  // how it was trained
  file.number<double>();
  read_dictionary(file);
  file.end();
}

void LanguageModel::read_dictionary(ModelFile& file) {
  const int entries = file.within<int32_t>(2, 1 << 24, "the size of the dictionary");
  const int words = file.within<int32_t>(0, entries - 2, "the number of words");
  file.expect<int32_t>(entries - words, "the number of labels");
  file.number<int64_t>();
  const size_t pruned = size_t(file.within<int64_t>(0, buckets_, "the number of n-grams"));
  std::vector<int64_t> counts;
  for (int i = 0; i < entries; i++) {
    std::string text = file.text();
    const int64_t count = file.within<int64_t>(0, int64_t(1) << 40, "the count of a word");
    file.expect<int8_t>(i < words ? 0 : 1, "the order of words and labels");
    if (i < words) {
      words_.push_back(std::move(text));
    } else {
      if (text.rfind(kLabel, 0) != 0) throw LanguageFault("corrupted: a label without its prefix");
      labels_.push_back(text.substr(kLabel.size()));
      counts.push_back(count);
    }
  }
  size_t capacity = 16;
  while (capacity < words_.size() * 2) capacity *= 2;
  slots_.assign(capacity, Slot{0, -1});
  for (size_t word = 0; word < words_.size(); word++) {
    uint32_t hash = kHashBasis;
    for (const char byte : words_[word]) hash = hashed(hash, byte);
    size_t at = hash & (capacity - 1);
    while (slots_[at].word >= 0) at = (at + 1) & (capacity - 1);
    slots_[at] = {hash, int32_t(word)};
    if (words_[word] == kEndOfLine) end_of_line_ = long(word);
  }
  build_tree(counts);
  const std::vector<uint32_t> places = read_pruned(file, pruned);
  read_vectors(file, places);
}

// For each n-gram that was kept, in the order of the buckets: its place in the file's order.
std::vector<uint32_t> LanguageModel::read_pruned(ModelFile& file, size_t count) {
  std::vector<std::pair<uint32_t, uint32_t>> kept;
  for (size_t i = 0; i < count; i++) {
    const uint32_t bucket = uint32_t(file.within<int32_t>(0, int64_t(buckets_) - 1, "the bucket of an n-gram"));
    kept.emplace_back(bucket, uint32_t(file.within<int32_t>(0, int64_t(count) - 1, "the place of an n-gram")));
  }
  std::sort(kept.begin(), kept.end());
  blocks_.assign(buckets_ / 64 + 1, Block{0, 0});
  std::vector<uint32_t> places;
  for (const auto& [bucket, place] : kept) {
    const uint64_t bit = uint64_t(1) << (bucket % 64);
    if (blocks_[bucket / 64].kept & bit) throw LanguageFault("corrupted: an n-gram is there twice");
    blocks_[bucket / 64].kept |= bit;
    places.push_back(place);
  }
  uint32_t before = 0;
  for (Block& block : blocks_) {
    block.before = before;
    before += ones(block.kept);
  }
  return places;
}

// Product quantisation: a byte stands for two neighbouring numbers, and one for the length of a vector.
void LanguageModel::read_vectors(ModelFile& file, const std::vector<uint32_t>& places) {
  constexpr int kCodes = kDimension / 2;
  const size_t rows = words_.size() + places.size();
  file.expect<uint8_t>(1, "not quantised");
  file.expect<uint8_t>(1, "no norms");
  file.expect<int64_t>(int64_t(rows), "the number of vectors");
  file.expect<int64_t>(kDimension, "the length of a vector");
  file.expect<int32_t>(int64_t(rows * kCodes), "the number of codes");
  const auto* codes = reinterpret_cast<const uint8_t*>(file.bytes(rows * kCodes));
  file.expect<int32_t>(kDimension, "the length of a centroid");
  file.expect<int32_t>(kCodes, "the parts of a vector");
  file.expect<int32_t>(2, "the length of a part");
  file.expect<int32_t>(2, "the length of the last part");
  centroids_ = file.floats(kDimension * 256);
  const auto* norm_codes = reinterpret_cast<const uint8_t*>(file.bytes(rows));
  for (const char* what : {"norms", "parts of a norm", "length of a norm", "last part of a norm"})
    file.expect<int32_t>(1, what);
  const std::vector<float> norms = file.floats(256);
  rows_.resize(rows);
  for (size_t row = 0; row < rows; row++) {
    const size_t from = row < words_.size() ? row : words_.size() + places[row - words_.size()];
    std::copy_n(codes + from * kCodes, kCodes, rows_[row].codes.begin());
    rows_[row].norm = norms[norm_codes[from]];
  }
  file.expect<uint8_t>(0, "quantised questions");
  file.expect<int64_t>(int64_t(labels_.size()), "the number of questions");
  file.expect<int64_t>(kDimension, "the length of a question");
  const std::vector<float> questions = file.floats(labels_.size() * kDimension);
  questions_.resize(labels_.size());
  for (size_t i = 0; i < questions.size(); i++) questions_[i / kDimension][i % kDimension] = questions[i];
}

// Huffman's: the two rarest of what has no parent get one, until one is left. Labels come by falling
// counts, so the rarest are the last label and the first inner node that have none yet.
void LanguageModel::build_tree(const std::vector<int64_t>& counts) {
  if (labels_.size() > 1024 || !std::is_sorted(counts.rbegin(), counts.rend()))
    throw LanguageFault("corrupted: the labels or their counts");
  const int leaves = int(labels_.size());
  std::vector<int64_t> sums = counts;
  tree_.assign(size_t(leaves), Node{-1, -1});
  int leaf = leaves - 1, inner = leaves;
  while (int(tree_.size()) < 2 * leaves - 1) {
    const auto rarest = [&] {
      const bool is_leaf = leaf >= 0 && (inner == int(tree_.size()) || counts[size_t(leaf)] < sums[size_t(inner)]);
      return is_leaf ? leaf-- : inner++;
    };
    const int left = rarest(), right = rarest();
    tree_.push_back({left, right});
    sums.push_back(sums[size_t(left)] + sums[size_t(right)]);
  }
}

long LanguageModel::word_row(std::string_view word, uint32_t hash) const {
  for (size_t at = hash & (slots_.size() - 1); slots_[at].word >= 0; at = (at + 1) & (slots_.size() - 1))
    if (slots_[at].hash == hash && words_[size_t(slots_[at].word)] == word) return slots_[at].word;
  return -1;
}

struct LanguageModel::Sum {
  Vector text{};
  long count = 0;
  std::array<uint32_t, 256> waiting;  // buckets of n-grams that are not looked up yet
  size_t waits = 0;

  void add(const Row& row, const float* centroids) {
    count++;
    for (size_t part = 0; part < row.codes.size(); part++, centroids += 2 * 256)
      for (size_t i = 0; i < 2; i++) text[2 * part + i] += row.norm * centroids[2 * row.codes[part] + i];
  }
};

// In passes: whether an n-gram was kept cannot be foreseen, and a branch on it would wait for memory
// each time. So all that may be looked at is asked for before any of it is needed.
void LanguageModel::add_waiting(Sum& sum) const {
  auto& buckets = sum.waiting;
  for (size_t i = 0; i < sum.waits; i++) __builtin_prefetch(&blocks_[buckets[i] / 64]);
  size_t kept = 0;
  for (size_t i = 0; i < sum.waits; i++) {
    const uint32_t bucket = buckets[i];
    buckets[kept] = bucket;
    kept += (blocks_[bucket / 64].kept >> (bucket % 64)) & 1;
  }
  const Row* ngrams = rows_.data() + words_.size();
  for (size_t i = 0; i < kept; i++) {
    const Block& block = blocks_[buckets[i] / 64];
    const uint64_t lower = (uint64_t(1) << (buckets[i] % 64)) - 1;
    buckets[i] = block.before + ones(block.kept & lower);
    __builtin_prefetch(ngrams + buckets[i]);
  }
  for (size_t i = 0; i < kept; i++) sum.add(ngrams[buckets[i]], centroids_.data());
  sum.waits = 0;
}

// `word` has its brackets.
void LanguageModel::add_word(std::string_view word, Sum& sum) const {
  const std::string_view bare = word.substr(1, word.size() - 2);
  uint32_t whole = kHashBasis;
  for (const char byte : bare) whole = hashed(whole, byte);
  const long row = word_row(bare, whole);
  if (row >= 0) sum.add(rows_[size_t(row)], centroids_.data());
  for (size_t begin = 0; begin < word.size(); begin++) {
    if (!begins_character(word[begin])) continue;
    uint32_t hash = kHashBasis;
    size_t end = begin;
    for (int length = 1; length <= longest_ && end < word.size(); length++) {
      do hash = hashed(hash, word[end++]);
      while (end < word.size() && !begins_character(word[end]));
      if (length < shortest_) continue;
      if (sum.waits == sum.waiting.size()) add_waiting(sum);
      sum.waiting[sum.waits++] = hash % buckets_;
    }
  }
}

LanguageModel::Guess LanguageModel::best(std::string_view words) const {
  Sum sum;
  while (!words.empty()) {
    const size_t end = std::min(words.find('>'), words.size() - 1) + 1;
    if (end >= 2) add_word(words.substr(0, end), sum);
    words.remove_prefix(end);
  }
  add_waiting(sum);
  if (end_of_line_ >= 0) sum.add(rows_[size_t(end_of_line_)], centroids_.data());
  if (sum.count == 0) return {-1, 0.0f};
  for (float& x : sum.text) x *= float(1.0 / double(sum.count));
  Path best{-1, logarithm(0.0f)};
  descend(sum.text, {int(tree_.size()) - 1, 0.0f}, best);
  return {best.node, best.node < 0 ? 0.0f : std::exp(best.score)};
}

// The likelier answer first: with what it finds most of the tree need not be looked at.
void LanguageModel::descend(const Vector& text, Path path, Path& best) const {
  if (path.score < best.score) return;
  if (path.node < int(labels_.size())) {
    best = path;
    return;
  }
  const Vector& question = questions_[size_t(path.node) - labels_.size()];
  const float yes = 1.0f / (1.0f + std::exp(-dot(text.data(), question.data(), kDimension)));
  const Node& node = tree_[size_t(path.node)];
  Path right{node.right, path.score + logarithm(yes)}, left{node.left, path.score + logarithm(1.0f - yes)};
  if (right.score > left.score) std::swap(left, right);
  descend(text, left, best);
  descend(text, right, best);
}

}  // namespace xlmr
