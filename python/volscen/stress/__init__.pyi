from ._assemble import combine as combine
from ._replay import WINDOWS as WINDOWS
from ._replay import replay as replay
from ._reverse import reverse as reverse
from ._shock import shock as shock
