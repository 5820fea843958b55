"""The component as a package for Pulumi programs in other languages, like TypeScript, Go and YAML.

Everything follows from `args.py` and from the outputs of `component.py`: `schema.py` describes
them, `inputs.py` turns what a program in another language gives into RegistryMirrorArgs, and
`host.py` is the plugin that Pulumi starts. A new key needs nothing here.

The SDK has a host of its own (pulumi sdk/python provider/experimental). It cannot have these args:
every field with a default would be required, of `str | SwarmNode` it keeps the first, a whole
number arrives as a float, and each fault is printed with a traceback.
"""
