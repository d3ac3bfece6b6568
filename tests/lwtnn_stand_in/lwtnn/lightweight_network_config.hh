#include "lwtnn/LightweightGraph.hh"
