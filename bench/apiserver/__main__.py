"""python -m bench.apiserver [part …]"""

import sys

from bench.apiserver import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
