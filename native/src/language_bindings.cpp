// What Python sees of language identification.
#include <nanobind/nanobind.h>

#include <algorithm>

#include "language.h"

namespace nb = nanobind;
using namespace nb::literals;
using xlmr::CharacterKind;

namespace {

// Below this many bytes of words, other threads would wait longer for a thread switch than for us.
constexpr size_t kLarge = 8192;

class Identifier {
 public:
  Identifier(nb::bytes file, nb::bytes kinds) : model_({file.c_str(), file.size()}) {
    const auto* first = reinterpret_cast<const uint8_t*>(kinds.c_str());
    if (std::any_of(first, first + kinds.size(), [](uint8_t kind) { return kind > uint8_t(CharacterKind::kSurrogate); }))
      throw std::invalid_argument("a kind of character lies in 0..3");
    kinds_.assign(first, first + kinds.size());
    for (const std::string& label : model_.labels()) labels_.append(nb::str(label.c_str(), label.size()));
  }

  nb::list identify(nb::list texts) const {
    std::vector<xlmr::Words> words(texts.size());
    std::vector<Guess> guesses(texts.size());
    size_t bytes = 0;
    for (size_t i = 0; i < words.size(); i++) {
      read(texts[i], words[i]);
      guesses[i].known = words[i].close();
      bytes += words[i].all().size();
    }
    const auto guess = [&] {
      for (size_t i = 0; i < words.size(); i++)
        if (guesses[i].known) guesses[i].best = model_.best(words[i].all());
    };
    if (bytes > kLarge) {
      const nb::gil_scoped_release release;
      guess();
    } else {
      guess();
    }
    nb::list found;
    for (const Guess& one : guesses) {
      if (!one.known || one.best.label < 0) found.append(nb::make_tuple(nb::none(), 0.0));
      else found.append(nb::make_tuple(labels_[one.best.label], double(one.best.probability)));
    }
    return found;
  }

 private:
  struct Guess {
    bool known;
    xlmr::LanguageModel::Guess best;
  };

  void read(nb::handle text, xlmr::Words& words) const {
    if (!PyUnicode_Check(text.ptr())) throw nb::type_error("a text must be a str");
    const int kind = PyUnicode_KIND(text.ptr());
    const void* data = PyUnicode_DATA(text.ptr());
    const Py_ssize_t length = PyUnicode_GET_LENGTH(text.ptr());
    for (Py_ssize_t i = 0; i < length; i++) {
      const Py_UCS4 code = PyUnicode_READ(kind, data, i);
      words.put(code, code < kinds_.size() ? CharacterKind(kinds_[code]) : CharacterKind::kBetween);
    }
  }

  xlmr::LanguageModel model_;
  std::vector<uint8_t> kinds_;  // by character
  nb::list labels_;
};

}  // namespace

NB_MODULE(_language, module) {
  module.doc() = "Language identification.";
  nb::exception<xlmr::LanguageFault>(module, "LanguageFault", PyExc_ValueError);
  nb::class_<Identifier>(module, "Identifier")
      .def(nb::init<nb::bytes, nb::bytes>(), "file"_a, "kinds"_a)
      .def("identify", &Identifier::identify, "texts"_a);
}
