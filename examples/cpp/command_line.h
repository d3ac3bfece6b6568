// What the programs of this folder take: GENERATOR N CONDITION... [--seed S] [--noise IN.f32]
// [--out OUT.f32]
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Arguments {
  std::string model, noise, out;
  std::int64_t count = 0;
  std::uint64_t seed = 0;
  std::vector<double> condition;
};

// The number in `word`, all of it: "65GeV" is no number. `read` is std::stod or the like.
template <typename Read>
auto number(const std::string& word, const std::string& what, Read read) {
  try {
    std::size_t used = 0;
    const auto value = read(word, &used);
    if (used == word.size()) return value;
  } catch (const std::logic_error&) {  // no number, or one that is too large
  }
  throw std::runtime_error("got \"" + word + "\" as " + what + "; expected a number");
}

// `usage` names the program and its GENERATOR.
inline Arguments parse(int argc, char** argv, const std::string& usage) {
  if (argc < 4)
    throw std::runtime_error("usage: " + usage +
                             " N CONDITION... [--seed S] [--noise IN.f32] [--out OUT.f32]");
  const auto integer = [](const std::string& word, std::size_t* used) { return std::stoll(word, used); };
  const auto real = [](const std::string& word, std::size_t* used) { return std::stod(word, used); };
  Arguments arguments;
  arguments.model = argv[1];
  arguments.count = number(argv[2], "N", integer);
  if (arguments.count < 1) throw std::runtime_error("N must be at least 1");
  for (int i = 3; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      arguments.condition.push_back(number(word, "condition", real));
      continue;
    }
    if (i + 1 == argc) throw std::runtime_error(word + " needs a value");
    const std::string value = argv[++i];
    if (word == "--seed") arguments.seed = static_cast<std::uint64_t>(number(value, "seed", integer));
    else if (word == "--noise") arguments.noise = value;
    else if (word == "--out") arguments.out = value;
    else throw std::runtime_error("unknown option " + word);
  }
  return arguments;
}

// Noise from a file of `size` 32-bit floats, no more and no less.
inline std::vector<float> read_noise(const std::string& path, std::size_t size) {
  std::vector<float> noise(size);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(noise.data()),
            static_cast<std::streamsize>(size * sizeof(float)));
  if (!file) throw std::runtime_error(path + " does not hold enough noise");
  if (file.peek() != std::ifstream::traits_type::eof())
    throw std::runtime_error(path + " holds more than the N x Z = " + std::to_string(size) +
                             " numbers of noise");
  return noise;
}

inline void write_showers(const std::string& path, const std::vector<float>& energies) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(energies.data()),
             static_cast<std::streamsize>(energies.size() * sizeof(float)));
  if (!file) throw std::runtime_error("cannot write " + path);
}
