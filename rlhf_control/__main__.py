import sys

from rlhf_control.cli import main

sys.exit(main())
