// "%5.2f" % x
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "text/jinja_format_spec.h"
#include "text/jinja_repr.h"

namespace bolide::jinja {
namespace {

// The fields of a % format, one after the other.
class PercentFormatter {
 public:
  PercentFormatter(std::string_view format, const Value& arguments) : format_(format), arguments_(arguments) {
    if (arguments.is_list_of(Form::tuple)) tuple_ = arguments.list();
  }

  std::string run() {
    while (position_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', position_), format_.size());
      out_ += format_.substr(position_, percent - position_);
      position_ = percent + 1;
      if (percent < format_.size()) field();
      require_size(out_.size());
    }
    const bool unused =
        tuple_ ? next_ < tuple_->items.size() : !arguments_.dict() && !arguments_.list() && !arguments_.is_undefined() && next_ == 0;
    if (unused) fail("not all arguments converted during string formatting");
    return std::move(out_);
  }

 private:
  char at() const {
    if (position_ >= format_.size()) fail("incomplete format");
    return format_[position_];
  }

  const Value& next_argument() {
    if (tuple_ ? next_ >= tuple_->items.size() : next_ > 0) fail("not enough arguments for format string");
    return tuple_ ? tuple_->items[next_++] : (++next_, arguments_);
  }

  int star_or_count() {
    if (at() != '*') return read_count(format_, position_);
    ++position_;
    const auto value = next_argument().as_integer();
    if (!value || *value > kMaxWidth || *value < -kMaxWidth) fail("* wants int");
    return static_cast<int>(*value);
  }

  void field() {
    std::optional<Value> named;
    if (at() == '(') {
      const size_t close = format_.find(')', position_);
      if (close == std::string_view::npos) fail("incomplete format key");
      if (!arguments_.dict()) fail("format requires a mapping");
      const std::string key(format_.substr(position_ + 1, close - position_ - 1));
      const Value* value = arguments_.dict()->find(std::string_view(key));
      if (!value) fail(fmt::format("the format's key {} is not there", quoted_text(key)));
      named = *value;
      position_ = close + 1;
    }
    Spec spec;
    for (;; ++position_) {
      const char flag = at();
      if (flag == '-')
        spec.align = '<';
      else if (flag == '0' && !spec.align)
        spec.align = '=', spec.fill = "0";
      else if (flag == '+' || (flag == ' ' && spec.sign != '+'))
        spec.sign = flag;
      else if (flag == '#')
        spec.alternate = true;
      else if (flag != ' ' && flag != '0')
        break;
    }
    if (spec.align == '<') spec.fill = " ";
    spec.width = star_or_count();
    if (spec.width < 0) spec.width = -spec.width, spec.align = '<';
    if (at() == '.') {
      ++position_;
      spec.precision = std::max(0, star_or_count());
    }
    while (at() == 'l' || at() == 'h' || at() == 'L') ++position_;
    spec.type = at();
    ++position_;
    if (spec.type == '%')
      out_ += '%';
    else
      convert(spec, named ? *named : next_argument());
  }

  void convert(Spec spec, const Value& value) {
    const Spec plain = spec.align == '=' ? Spec{.width = spec.width} : spec;
    switch (spec.type) {
      case 's':
        out_ += pad(cut(text_of(value), spec.precision), plain, '>');
        return;
      case 'r':
      case 'a':
        out_ += pad(cut(repr_of(value), spec.precision), plain, '>');
        return;
      case 'c':
        out_ += pad(character_of(value), plain, '>');
        return;
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': {
        const auto whole = spec.type == 'd' || spec.type == 'i' || spec.type == 'u' ? whole_number(value) : value.as_integer();
        if (!whole) fail(fmt::format("%{} format: a number is required, not {}", spec.type, value.type_name()));
        out_ += integer_text(*whole, spec);
        return;
      }
      case 'f':
      case 'F':
      case 'e':
      case 'E':
      case 'g':
      case 'G': {
        const auto number = value.as_number();
        if (!number) fail(fmt::format("must be real number, not {}", value.type_name()));
        out_ += real_text_of(*number, spec);
        return;
      }
      default:
        fail(fmt::format("unsupported format character '{}'", spec.type));
    }
  }

  static std::optional<int64_t> whole_number(const Value& value) {
    if (const double* real = value.real()) {
      if (!(std::abs(*real) < 9.2e18)) fail("a float that is no 64-bit integer");
      return static_cast<int64_t>(*real);
    }
    return value.as_integer();
  }

  std::string_view format_;
  const Value& arguments_;
  const List* tuple_ = nullptr;
  size_t position_ = 0, next_ = 0;
  std::string out_;
};

}  // namespace

std::string format_percent(std::string_view format, const Value& arguments) { return PercentFormatter(format, arguments).run(); }

}  // namespace bolide::jinja
