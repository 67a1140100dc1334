# cmake -DCARGO=… -DMANIFEST=… -DTARGET_DIR=… -P bridge.cmake: builds the Rust library. If its crates cannot be
# downloaded, the error message suggests what to do.
execute_process(COMMAND ${CARGO} build --release --locked --quiet --manifest-path ${MANIFEST} --target-dir ${TARGET_DIR}
  RESULT_VARIABLE result ERROR_VARIABLE errors)
if(result EQUAL 0)
  return()
endif()
if(errors MATCHES "failed to download|failed to get|failed to fetch|Could ?n.t resolve|download of|spurious network")
  message(FATAL_ERROR "cargo cannot download the crates of bridge/Cargo.lock: connect to the network once, or configure with -DCAKE_BRIDGE=OFF, which leaves the chat templates that libllama knows\n${errors}")
endif()
message(FATAL_ERROR "${errors}")
