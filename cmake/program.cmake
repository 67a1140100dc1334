# The program `cake`: commands, evaluation, and the server.

find_package(CLI11 2.6 REQUIRED)
pkg_check_modules(libedit REQUIRED IMPORTED_TARGET libedit)

# The page of `cake inspect` and its script, embedded as constants.
find_file(CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js PATH_SUFFIXES share/javascript/chart.js REQUIRED)
file(STRINGS ${CHART_JS} chart_version LIMIT_COUNT 2 REGEX "Chart.js v3\\.")
if(NOT chart_version)
  message(FATAL_ERROR "${CHART_JS} is not of Chart.js 3, which the page of cake inspect is written for")
endif()
set(page_parts ${CMAKE_CURRENT_BINARY_DIR}/page_parts.cpp)
add_custom_command(OUTPUT ${page_parts}
  COMMAND ${CMAKE_COMMAND} -DOUT=${page_parts} -DHEADER=eval/page_parts.hpp -DNAMESPACE=cake::eval
          "-DPARTS=kInspectionPage=${CMAKE_CURRENT_SOURCE_DIR}/src/eval/inspection.html;kInspectionJs=${CMAKE_CURRENT_SOURCE_DIR}/src/eval/inspection.js;kChartJs=${CHART_JS}"
          -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/embed.cmake
  DEPENDS src/eval/inspection.html src/eval/inspection.js ${CHART_JS} cmake/embed.cmake VERBATIM)

add_library(cake_eval STATIC
  ${page_parts}
  src/eval/answers.cpp
  src/eval/fidelity.cpp
  src/eval/filler.cpp
  src/eval/haystack.cpp
  src/eval/inspection.cpp
  src/eval/inspection_page.cpp
  src/eval/jsonl.cpp
  src/eval/longbench.cpp
  src/eval/metrics.cpp
  src/eval/plot.cpp
  src/eval/puzzle.cpp
  src/eval/questions.cpp
  src/eval/results.cpp
  src/eval/retrieval_files.cpp
  src/eval/runner.cpp
  src/eval/score_table.cpp
  src/eval/synthetic.cpp
  src/eval/task.cpp
  src/eval/words.cpp)
target_link_libraries(cake_eval PUBLIC cake_engine nlohmann_json::nlohmann_json)
target_precompile_headers(cake_eval PRIVATE ${common_headers})
target_compile_options(cake_eval PRIVATE ${quick_to_compile})

if(CAKE_BUILD_SERVER)
  pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)

  # The page of `cake serve`: src/server/page/api.js becomes kApiJs, and so on.
  set(server_page_parts ${CMAKE_CURRENT_BINARY_DIR}/server_page_parts.cpp)
  set(parts "")
  set(page_files "")
  foreach(file page.html page.css chat.css cake.css icon.svg page.js announcer.js answer.js api.js calls.js chat.js
               composer.js documents.js dom.js format.js holdings.js key.js layers.js limits.js list.js memory.js
               messages.js panes.js properties.js request.js settings.js shelf.js storage.js stream.js text.js thread.js
               tools.js)
    string(REGEX MATCH "^(.)(.*)\\.(.)(.*)$" _ ${file})
    string(TOUPPER "${CMAKE_MATCH_1}" first)
    string(TOUPPER "${CMAKE_MATCH_3}" first_of_type)
    list(APPEND parts "k${first}${CMAKE_MATCH_2}${first_of_type}${CMAKE_MATCH_4}=${CMAKE_CURRENT_SOURCE_DIR}/src/server/page/${file}")
    list(APPEND page_files src/server/page/${file})
  endforeach()
  add_custom_command(OUTPUT ${server_page_parts}
    COMMAND ${CMAKE_COMMAND} -DOUT=${server_page_parts} -DHEADER=server/page_parts.hpp -DNAMESPACE=cake::server
            "-DPARTS=${parts}" -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/embed.cmake
    DEPENDS ${page_files} cmake/embed.cmake VERBATIM)

  add_library(cake_server STATIC
    ${server_page_parts}
    src/server/access.cpp
    src/server/answer.cpp
    src/server/answer_writer.cpp
    src/server/api_error.cpp
    src/server/body.cpp
    src/server/chat_messages.cpp
    src/server/chat_request.cpp
    src/server/choices_writer.cpp
    src/server/native_writer.cpp
    src/server/prompt_fields.cpp
    src/server/properties.cpp
    src/server/text_request.cpp
    src/server/completions.cpp
    src/server/connection.cpp
    src/server/document_prompt.cpp
    src/server/document_shelf.cpp
    src/server/connection_table.cpp
    src/server/connection_threads.cpp
    src/server/generation_fields.cpp
    src/server/http.cpp
    src/server/logprobs.cpp
    src/server/messages_request.cpp
    src/server/messages_writer.cpp
    src/server/metrics.cpp
    src/server/page_files.cpp
    src/server/constraint_fields.cpp
    src/server/request.cpp
    src/server/request_log.cpp
    src/server/respond.cpp
    src/server/response_store.cpp
    src/server/responses_request.cpp
    src/server/responses_writer.cpp
    src/server/slot_files.cpp
    src/server/slots.cpp
    src/server/tool_constraints.cpp
    src/server/tool_fields.cpp
    src/server/tool_json.cpp
    src/server/unknown_fields.cpp)
  target_link_libraries(cake_server PUBLIC cake_engine nlohmann_json::nlohmann_json PkgConfig::httplib PRIVATE PkgConfig::xxhash)
  target_precompile_headers(cake_server PRIVATE ${common_headers} <nlohmann/json.hpp>)
  target_compile_options(cake_server PRIVATE ${quick_to_compile})
endif()

add_library(cake_cli STATIC
  src/cli/ask.cpp
  src/cli/ask_options.cpp
  src/cli/ask_report.cpp
  src/cli/asking.cpp
  src/cli/bench.cpp
  src/cli/chat.cpp
  src/cli/cli11.cpp
  src/cli/device_flags.cpp
  src/cli/dialog.cpp
  src/cli/document_file.cpp
  src/cli/documents.cpp
  src/cli/eval.cpp
  src/cli/eval_options.cpp
  src/cli/flags.cpp
  src/cli/info.cpp
  src/cli/input.cpp
  src/cli/inspect.cpp
  src/cli/interrupt.cpp
  src/cli/line_editor.cpp
  src/cli/model_path.cpp
  src/cli/output.cpp
  src/cli/parse.cpp
  src/cli/progress.cpp
  src/cli/read.cpp
  src/cli/reading.cpp
  src/cli/report.cpp
  src/cli/run.cpp
  src/cli/sources.cpp)
target_link_libraries(cake_cli PUBLIC cake_eval CLI11::CLI11 PRIVATE PkgConfig::libedit)
target_compile_definitions(cake_cli PUBLIC CLI11_COMPILE)  # its functions are compiled once, in cli11.cpp
if(CAKE_BUILD_SERVER)
  target_sources(cake_cli PRIVATE src/cli/serve.cpp)
  target_link_libraries(cake_cli PUBLIC cake_server)
  target_compile_definitions(cake_cli PUBLIC CAKE_SERVER)
endif()
target_precompile_headers(cake_cli PRIVATE ${common_headers} <CLI/CLI.hpp>)
target_compile_options(cake_cli PRIVATE ${quick_to_compile})

add_executable(cake src/cli/main.cpp)
target_link_libraries(cake PRIVATE cake_cli)
target_compile_definitions(cake PRIVATE CAKE_VERSION="${PROJECT_VERSION}")
install(TARGETS cake)
