#include "core/error.h"

namespace bolide {

void internal_error(const char* file, int line, const char* condition) {
  throw Error(fmt::format("internal error at {}:{}: {} does not hold. This is a bug in bolide; please report it with the command line",
                          file, line, condition));
}

}  // namespace bolide
