// bolide generate --dry-run: everything that is checked before weights are read, and the memory it would take.
#pragma once

#include "cli/generate_options.h"

namespace bolide {

// Writes what a run would do to standard output, as text or JSON. After options.model.resolve(). Throws what loading and the prompt would
// throw: ModelError, UsageError, Error for a prompt that is too long, MemoryError for what does not fit.
ExitCode dry_run(const GenerateOptions& options);

}  // namespace bolide
