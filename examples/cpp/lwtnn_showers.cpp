// Showers of one energy from a JSON file of `caloforge export --to lwtnn`, with LWTNN.
//
//   lwtnn_showers GENERATOR.json N ENERGY [SEED]
//
// For a generator that is told the energy alone (CaloShowerGAN); ENERGY in MeV.
#include <lwtnn/LightweightGraph.hh>
#include <lwtnn/lightweight_network_config.hh>
#include <lwtnn/parse_json.hh>

#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>

int main(int argc, char** argv) {
  try {
    if (argc < 4) throw std::runtime_error("usage: lwtnn_showers GENERATOR.json N ENERGY [SEED]");
    std::ifstream file(argv[1]);
    if (!file) throw std::runtime_error(std::string("cannot read ") + argv[1]);
    const lwt::GraphConfig config = lwt::parse_json_graph(file);
    const lwt::LightweightGraph graph(config);

    const long count = std::stol(argv[2]);
    const double energy = std::stod(argv[3]);
    std::mt19937_64 engine(argc > 4 ? std::stoull(argv[4]) : 0);
    std::normal_distribution<double> normal;

    // Standard normals and log(E / MeV): the offsets and scales of the file make of them what the
    // network was trained with.
    std::map<std::string, std::map<std::string, double>> inputs;
    inputs["condition"]["log_energy"] = std::log(energy);
    double total = 0;
    std::size_t cells = 0;
    for (long k = 0; k < count; ++k) {
      for (const auto& input : config.inputs)
        if (input.name == "noise")
          for (const auto& variable : input.variables) inputs["noise"][variable.name] = normal(engine);
      const auto fractions = graph.compute(inputs);  // label "0", "1", ...: share of the energy
      cells = fractions.size();
      for (const auto& [label, fraction] : fractions) total += energy * fraction;
    }
    std::cout << count << " showers of " << cells << " cells, "
              << total / static_cast<double>(count) << " MeV on average\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "lwtnn_showers: " << error.what() << "\n";
    return 2;
  }
}
