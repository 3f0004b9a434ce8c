# BOLIDE_STATIC_DEPS: programs that run on a machine with the same or a newer C library and nothing else installed. Libraries are linked
# from their static archive where the package has one. Where it has none (Highway and sentencepiece on Debian), the shared library is
# copied beside the programs, which look for libraries in their own folder first: carry the whole folder build/.../bin.
set(CMAKE_INSTALL_RPATH "$ORIGIN")
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
# DT_RPATH instead of DT_RUNPATH: it also holds for libraries that the copied libraries need.
add_link_options(-Wl,--disable-new-dtags -Wl,--as-needed)
find_program(BOLIDE_OBJDUMP NAMES ${CMAKE_OBJDUMP} objdump REQUIRED)

# Copies a shared library beside the programs, under the name that programs linked with it ask for.
function(bolide_copy_library library)
  file(REAL_PATH ${library} real)
  execute_process(COMMAND ${BOLIDE_OBJDUMP} -p ${real} OUTPUT_VARIABLE headers COMMAND_ERROR_IS_FATAL ANY)
  get_filename_component(name ${real} NAME)
  if(headers MATCHES "SONAME +([^ \n]+)")
    set(name ${CMAKE_MATCH_1})
  endif()
  configure_file(${real} ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${name} COPYONLY)
  message(STATUS "Carried: ${name}")
  # What it needs in turn, but for the C and C++ run-time libraries.
  string(REGEX MATCHALL "NEEDED +[^ \n]+" needed "${headers}")
  foreach(entry IN LISTS needed)
    string(REGEX REPLACE "NEEDED +" "" dependency "${entry}")
    if(NOT dependency MATCHES "^(libc|libm|libdl|librt|libpthread|libstdc\\+\\+|libgcc_s|ld-linux.*)\\.so")
      get_filename_component(folder ${library} DIRECTORY)
      find_file(carried_${dependency} ${dependency} HINTS ${folder} PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} REQUIRED)
      bolide_copy_library(${carried_${dependency}})
    endif()
  endforeach()
endfunction()

# Replaces libraries by their static archives where they exist, and copies the shared libraries that remain.
function(bolide_carry_libraries result)
  set(libraries "")
  foreach(library IN LISTS ARGN)
    string(REGEX REPLACE "\\.so$" ".a" archive ${library})
    if(NOT archive STREQUAL library AND EXISTS ${archive})
      list(APPEND libraries ${archive})
    else()
      list(APPEND libraries ${library})
      bolide_copy_library(${library})
    endif()
  endforeach()
  set(${result} ${libraries} PARENT_SCOPE)
endfunction()
