from distmer.cli import main

main()
