#include "cli/clock.h"

namespace bolide {
namespace {

const Clock::time_point started = Clock::now();

}  // namespace

Clock::time_point program_start() { return started; }

}  // namespace bolide
