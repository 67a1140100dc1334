#include "server/page_files.hpp"

#include "server/page_parts.hpp"

namespace cake::server {

std::span<const PageFile> page_files() {
    constexpr const char* kHtml = "text/html; charset=utf-8";
    constexpr const char* kCss = "text/css; charset=utf-8";
    constexpr const char* kScript = "text/javascript; charset=utf-8";
    constexpr const char* kSvg = "image/svg+xml";
    static const PageFile files[] = {{"/", kPageHtml, kHtml},
                                     {"/page/page.css", kPageCss, kCss},
                                     {"/page/chat.css", kChatCss, kCss},
                                     {"/page/cake.css", kCakeCss, kCss},
                                     {"/page/icon.svg", kIconSvg, kSvg},
                                     {"/page/page.js", kPageJs, kScript},
                                     {"/page/announcer.js", kAnnouncerJs, kScript},
                                     {"/page/answer.js", kAnswerJs, kScript},
                                     {"/page/api.js", kApiJs, kScript},
                                     {"/page/calls.js", kCallsJs, kScript},
                                     {"/page/chat.js", kChatJs, kScript},
                                     {"/page/composer.js", kComposerJs, kScript},
                                     {"/page/documents.js", kDocumentsJs, kScript},
                                     {"/page/dom.js", kDomJs, kScript},
                                     {"/page/format.js", kFormatJs, kScript},
                                     {"/page/holdings.js", kHoldingsJs, kScript},
                                     {"/page/key.js", kKeyJs, kScript},
                                     {"/page/layers.js", kLayersJs, kScript},
                                     {"/page/limits.js", kLimitsJs, kScript},
                                     {"/page/list.js", kListJs, kScript},
                                     {"/page/memory.js", kMemoryJs, kScript},
                                     {"/page/messages.js", kMessagesJs, kScript},
                                     {"/page/panes.js", kPanesJs, kScript},
                                     {"/page/properties.js", kPropertiesJs, kScript},
                                     {"/page/request.js", kRequestJs, kScript},
                                     {"/page/settings.js", kSettingsJs, kScript},
                                     {"/page/shelf.js", kShelfJs, kScript},
                                     {"/page/storage.js", kStorageJs, kScript},
                                     {"/page/stream.js", kStreamJs, kScript},
                                     {"/page/text.js", kTextJs, kScript},
                                     {"/page/thread.js", kThreadJs, kScript},
                                     {"/page/tools.js", kToolsJs, kScript}};
    return files;
}

}  // namespace cake::server
