// The files that a configuration names, read from its text: what a package has to carry, and may not reach beyond. The
// keys are config_toml.cc's; a key that names files there must be known here.
#include "toml/hardened.hh"

#include <cstdio>
#include <string>

#include "internal.h"

namespace {

struct Walk {
    bool (*each)(void *, const char *, bool);
    void *context;
    char *error;

    bool name(const toml::node &node, bool directory) {
        auto text = node.as_string();
        if (!text) return true; // a wrong type is the configuration reader's to report
        if (text->get().find('\0') != std::string::npos) return package_fail(error, "a file's name with a NUL in it");
        return each(context, text->get().c_str(), directory);
    }

    bool names(const toml::node &node) {
        auto list = node.as_array();
        if (!list) return name(node, false);
        for (auto &&item : *list)
            if (!name(item, false)) return false;
        return true;
    }

    bool table(const toml::table &t, bool mounts) {
        for (auto &&[k, node] : t) {
            bool files = k.str() == "trust" || k.str() == "peer-policy";
            if (files && !names(node)) return false;
            if (mounts && k.str() == "host" && !name(node, true)) return false;
            if (auto sub = node.as_table(); sub && !table(*sub, k.str() == "mounts")) return false;
            if (auto list = node.as_array())
                for (auto &&item : *list)
                    if (auto sub = item.as_table(); sub && !table(*sub, k.str() == "mounts")) return false;
        }
        return true;
    }
};

bool read(Walk &w, std::string_view text) {
    if (toml_hardened::forbidden(text) != std::string_view::npos ||
        toml_hardened::key_scan{text}.too_deep() != std::string_view::npos)
        return package_fail(w.error, "the configuration is not TOML");
    toml::parse_result parsed = toml::parse(text);
    if (parsed) return w.table(parsed.table(), false);
    return package_fail(w.error, "the configuration: line %u: %s",
                        static_cast<unsigned>(parsed.error().source().begin.line),
                        std::string(parsed.error().description()).c_str());
}

} // namespace

extern "C" bool config_names(const char *text, size_t size, bool (*each)(void *, const char *, bool), void *context,
                             char *error) {
    Walk w{each, context, error};
    try {
        return read(w, std::string_view(text, size));
    } catch (const toml_assertion &) {
        return package_fail(error, "the configuration is not TOML");
    } catch (...) {
        return package_fail(error, "out of memory");
    }
}
