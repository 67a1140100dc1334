#pragma once

#include <string_view>

namespace cake::server {

/// Files embedded at build time (cmake/embed.cmake).
extern const std::string_view kPageHtml;
extern const std::string_view kPageCss;
extern const std::string_view kChatCss;
extern const std::string_view kCakeCss;
extern const std::string_view kIconSvg;
extern const std::string_view kPageJs;
extern const std::string_view kAnnouncerJs;
extern const std::string_view kAnswerJs;
extern const std::string_view kApiJs;
extern const std::string_view kCallsJs;
extern const std::string_view kChatJs;
extern const std::string_view kComposerJs;
extern const std::string_view kDocumentsJs;
extern const std::string_view kDomJs;
extern const std::string_view kFormatJs;
extern const std::string_view kHoldingsJs;
extern const std::string_view kKeyJs;
extern const std::string_view kLayersJs;
extern const std::string_view kLimitsJs;
extern const std::string_view kListJs;
extern const std::string_view kMemoryJs;
extern const std::string_view kMessagesJs;
extern const std::string_view kPanesJs;
extern const std::string_view kPropertiesJs;
extern const std::string_view kRequestJs;
extern const std::string_view kSettingsJs;
extern const std::string_view kShelfJs;
extern const std::string_view kStorageJs;
extern const std::string_view kStreamJs;
extern const std::string_view kTextJs;
extern const std::string_view kThreadJs;
extern const std::string_view kToolsJs;

}  // namespace cake::server
