#include "cli/run_cli.h"

int main(int argc, char** argv) { return bolide::run_cli(argc, argv); }
