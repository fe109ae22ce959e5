# The C module behind `signal`, which typeshed does not know: the same functions, and plain numbers.
from signal import *
from signal import struct_siginfo as struct_siginfo
