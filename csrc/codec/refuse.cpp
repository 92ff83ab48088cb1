#include "codec/refuse.hpp"

#include <fastslm/error.hpp>

#include "codec/text.hpp"

namespace fastslm {

void refuse(std::string_view subject, const std::string& why, const std::string& found,
            const std::string& expected) {
  const std::string name = shown(subject);
  throw Error(ErrorCode::bad_format,
              "`" + name + "` " + why + ": found `" + shown(found) + "`, expected " + expected,
              {.expected = expected, .found = shown(found), .name = name});
}

void refuse_archive(const std::string& why) {
  throw Error(ErrorCode::bad_format, "the archive " + why, {.name = "archive"});
}

}  // namespace fastslm
