# bolide_version: build_info.cpp with the commit, the compiler and the build type, made anew at configure time.
find_package(Git QUIET)
set(BOLIDE_COMMIT "unknown")
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} describe --always --dirty --abbrev=12
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(BOLIDE_COMMIT ${commit})
  endif()
endif()
configure_file(${CMAKE_SOURCE_DIR}/scripts/cmake/build_info.cpp.in ${CMAKE_BINARY_DIR}/generated/build_info.cpp @ONLY)
add_library(bolide_version STATIC ${CMAKE_BINARY_DIR}/generated/build_info.cpp)
target_link_libraries(bolide_version PUBLIC bolide_flags)
