// Models by name, as the Hugging Face tools keep them on this machine: CACHE/models--Org--Name/{blobs,refs,snapshots}.
// Layout: https://huggingface.co/docs/hub/local-cache
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace bolide {

// "Org/Name@revision"; the revision is a branch, a tag or a commit, and "main" where none is given.
struct HubName {
  std::string repository;               // "Org/Name", or "Name" for the oldest models
  std::optional<std::string> revision;  // as written
};

// Nothing where the text cannot be the name of a model: paths such as "./x", "/x", "a/b/c", and whatever a hub does not allow in names.
std::optional<HubName> parse_hub_name(std::string_view text);

// Whether a revision is what git allows as a name; what is not could point out of the cache.
bool valid_revision(std::string_view revision);

// $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. Empty variables count as unset, a
// leading "~" is the home folder.
std::filesystem::path hub_cache_folder();

struct HubSnapshot {
  std::filesystem::path folder;  // CACHE/models--Org--Name/snapshots/COMMIT
  std::string commit;            // 40 hexadecimal digits
};

// The snapshot of `name`. Throws ModelError: not in the cache, another revision only, or a download that was not finished (links without
// their blob; *.incomplete blobs beside a snapshot that lacks its configuration or weights), with the files that are missing and the
// command that gets them. `as_given`: what the user wrote, for messages.
HubSnapshot find_in_hub_cache(const HubName& name, const std::filesystem::path& cache, const std::string& as_given);

}  // namespace bolide
