// Classifiers of any content and texts of any bytes: refused with a LanguageFault, or a probability.
//
// An input: two bytes for how many of the last bytes are the text, then the file.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "language.h"
#include "target.h"
#include "tiny_language.h"

using namespace xlmr;

std::vector<uint8_t> example() {
  const std::string file = test::TinyLanguage(1).file(), text = "<abc><ünd><日本語>";
  std::vector<uint8_t> input{uint8_t(text.size()), 0};
  input.insert(input.end(), file.begin(), file.end());
  input.insert(input.end(), text.begin(), text.end());
  return input;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input{data, size};
  const size_t low = input.byte(), text = std::min(low | size_t(input.byte()) << 8, input.left);
  const std::vector<char> file(input.data, input.data + input.left - text);
  const std::vector<char> words(input.data + input.left - text, input.data + input.left);
  try {
    const LanguageModel model({file.data(), file.size()});
    const LanguageModel::Guess guess = model.best({words.data(), words.size()});
    const bool sensible = guess.label < int(model.labels().size()) && guess.probability >= 0 && guess.probability < 1.1f;
    if (!sensible) std::abort();
  } catch (const LanguageFault&) {  // as it should be
  }
  return 0;
}
