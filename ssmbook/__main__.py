from ssmbook.cli import main

raise SystemExit(main())
